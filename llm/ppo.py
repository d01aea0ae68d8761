"""One step of PPO (Schulman et al. 2017; InstructGPT 2022): answer, judge, learn.

`explore` lets the policy answer a batch of prompts, asks what the reference and the reward make of
the answers, and makes an `Experience` of it that is the same in all processes: rows are dealt out,
what comes back is put together again, so that whitening and figures are computed over all of them
everywhere. `learn` goes through it several times in minibatches drawn by (seed, step, epoch).
Losses are sums over tokens, divided by those of the whole minibatch: neither the number of
processes nor the micro batch changes an update.

Policy and critic go backwards one after the other, so only one of them holds activations.

B answers, A tokens of an answer at most, N answer tokens of a micro batch.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from llm.align_config import PpoConfig
from llm.data import draw_order
from llm.examples import Prompt
from llm.experience import Experience, Texts, in_slots, laid_out
from llm.optim import set_rate
from llm.ppo_math import (
    entropy,
    gae,
    kl_rewards,
    logprobs_of,
    masked_whiten,
    policy_loss,
    value_loss,
)
from llm.ppo_models import ActorCritic
from llm.pretrain_mix import PretrainMix
from llm.roles import Manner, Roles, answer_logits
from llm.rollout import Key
from llm.run import Setting
from llm.train import autocast
from llm.world import World

MayLearn = Callable[[float], bool]
"""Asked before the first update, with the mean size of ratio - 1."""

LeaveOut = Callable[[int, str], None]
"""Told at which step an update is left out, and why; what it raises ends the training."""


@dataclass(frozen=True)
class Rates:
    """Learning rates of a step."""

    policy: float
    critic: float


@dataclass(frozen=True)
class Updates:
    """What the updates of a step did, as means: losses, clip_fraction, approx_kl per token.

    ratio: mean size of (ratio - 1) before the first update, when both models still are the same.
    """

    policy_loss: float
    clip_fraction: float
    approx_kl: float
    ratio: float
    value_loss: float
    grad_norm: float


class Ppo:
    """The step, in one of possibly many processes."""

    def __init__(
        self,
        models: ActorCritic,
        optimizer: torch.optim.Optimizer,
        roles: Roles,
        manner: Manner,
        config: PpoConfig,
        on: Setting,
        seed: int,
        leave_out: LeaveOut,
        mix: PretrainMix | None = None,
    ) -> None:
        self.models, self.optimizer, self.roles, self.mix = models, optimizer, roles, mix
        self.manner, self.config, self.on, self.seed = manner, config, on, seed
        self.leave_out, self.world = leave_out, on.world
        self.phases: dict[str, float] = {}
        self.doing = ""
        """The phase it is in, or was last."""

    # -- answers -----------------------------------------------------------------------------------

    def explore(self, prompts: list[Prompt], keys: list[Key], coefficient: float) -> Experience:
        """Answers to prompts, and what all models make of them."""
        self.phases = {}
        with self._phase("rollout"):
            texts, ended, written = self._write(prompts, keys)
        slots = in_slots(texts.length, self.config.micro_batch)[self.world.rank :: self.world.size]
        parts = [texts[rows] for rows in slots]
        reference = self.roles.reference(parts)
        rewards = self.roles.rewards(parts, [[prompts[i] for i in rows] for rows in slots])
        with self._phase("logprobs"):
            own = [self._read(part) for part in parts]
            theirs = reference()
        with self._phase("reward"):
            given = rewards()
        room = self.manner.max_tokens
        rows = [
            laid_out(torch.cat((mine, other.to(mine.device)[:, None]), 1), part.mask(room))
            for mine, other, part in zip(own, theirs, parts, strict=True)
        ]
        table = together(slots, rows, torch.zeros(len(texts), room, 4), self.world)
        worth = together(slots, given, torch.zeros(len(texts)), self.world)
        return appraised(texts, ended, worth, written, table, coefficient, self.config)

    def _write(self, prompts: list[Prompt], keys: list[Key]) -> tuple[Texts, Tensor, Tensor]:
        """Texts, which of them ended, and the log-probabilities (B, A) they were drawn with.

        Prompts of about the same length are written together.
        """
        lengths = torch.tensor([len(prompt.ids) for prompt in prompts])
        mine = torch.argsort(lengths, stable=True)[self.world.rank :: self.world.size]
        ids = [[int(i) for i in prompts[row].ids] for row in mine]
        answers = self.roles.write(ids, [keys[row] for row in mine], self.manner)
        rows = list(mine.split([len(one.ids) for one in answers]))
        room = int(lengths.max()) + self.manner.max_tokens
        ids_of = [padded(one.ids, room) for one in answers]
        facts = [torch.stack((one.length, one.ended.long()), 1) for one in answers]
        count = len(prompts)
        whole = together(rows, ids_of, torch.zeros(count, room, dtype=torch.int64), self.world)
        about = together(rows, facts, torch.zeros(count, 2, dtype=torch.int64), self.world)
        drawn = [one.logprobs for one in answers]
        written = together(rows, drawn, torch.zeros(count, self.manner.max_tokens), self.world)
        length, ended = about.unbind(1)
        texts = Texts(whole[:, : int(length.max())], lengths.to(whole.device), length)
        return texts, ended.bool(), written

    @torch.no_grad()
    def _read(self, texts: Texts) -> Tensor:
        """The policy's log-probabilities, its entropy, the critic's values: (N, 3)."""
        texts = texts.to(self.world.device)
        with autocast(self.world.device, self.on.precision):
            logits = answer_logits(self.models.policy, texts, self.manner.never)
            temperature = self.manner.temperature
            logprobs = logprobs_of(logits, texts.targets, temperature)
            spread = entropy(logits, temperature)
            return torch.stack((logprobs, spread, self._values(texts)), 1)

    def _values(self, texts: Texts) -> Tensor:
        """What the critic expects before each answer token: (N,)."""
        return self.models.critic.values(texts.inputs)[texts.predicting]

    # -- updates -----------------------------------------------------------------------------------

    def learn(
        self, step: int, experience: Experience, rates: Rates, may_learn: MayLearn
    ) -> Updates | None:
        """All updates of a step; none, and no change, if `may_learn` says so."""
        sums: list[Tensor] = []
        norms: list[float] = []
        ratio: float | None = None
        with self._phase("update"):
            for rows in self._minibatches(step, len(experience.texts)):
                figures = self._backward(step, experience, rows)
                if ratio is None:
                    (ratio,) = self.world.sum(float(figures[3]))
                    if not may_learn(ratio):
                        self.optimizer.zero_grad(set_to_none=True)
                        return None
                norm = self._update(step, rates)
                if norm is not None:
                    sums.append(figures)
                    norms.append(norm)
            self.roles.follow(self.models.policy)
        assert ratio is not None
        means = torch.stack(sums).mean(0).tolist() if sums else [0.0] * 5
        loss, clipped, approx_kl, _, value = self.world.sum(*means)
        norm = sum(norms) / max(1, len(norms))
        return Updates(loss, clipped, approx_kl, ratio, value, norm)

    def _minibatches(self, step: int, answers: int) -> Iterator[Tensor]:
        """Rows of all minibatches of a step."""
        for epoch in range(self.config.epochs):
            order = torch.from_numpy(draw_order(answers, self.seed, step, epoch))
            yield from order.split(self.config.minibatch)

    def _backward(self, step: int, experience: Experience, rows: Tensor) -> Tensor:
        """The gradient of this process's share of a minibatch; its part of the `Updates`."""
        e = experience
        tokens = e.mask[rows].sum()
        slots = in_slots(e.texts.length[rows].cpu(), self.config.micro_batch)
        sums = torch.zeros(5, device=self.world.device)
        for slot in slots[self.world.rank :: self.world.size]:
            chosen = rows[slot]
            texts = e.texts[chosen].to(self.world.device)
            if step >= self.config.critic_warmup:
                sums[:4] += self._teach_policy(e, chosen, texts, tokens)
            sums[4] += self._teach_critic(e, chosen, texts, tokens)
        if self.mix and step >= self.config.critic_warmup:
            self.mix.backward(self.models.policy, self.config.pretrain_weight, len(rows))
        return sums

    def _teach_policy(self, e: Experience, rows: Tensor, texts: Texts, tokens: Tensor) -> Tensor:
        """Adds to the policy's gradient; loss, clipped, approximate KL, size of ratio - 1."""
        mask = e.mask[rows]
        old, advantages = e.logprobs[rows][mask], e.advantages[rows][mask]
        with autocast(self.world.device, self.on.precision):
            logits = answer_logits(self.models.policy, texts, self.manner.never)
            new = logprobs_of(logits, texts.targets, self.manner.temperature)
            all_of_it = torch.ones_like(new, dtype=torch.bool)
            loss = policy_loss(new, old, advantages, all_of_it, self.config.clip)
            total = loss.loss
            if self.config.entropy:
                total = total - self.config.entropy * entropy(logits, self.manner.temperature).sum()
        (total / tokens).backward()
        drift = torch.expm1(new.detach() - old).abs().sum()
        return torch.stack((loss.loss.detach(), loss.clipped, loss.approx_kl, drift)) / tokens

    def _teach_critic(self, e: Experience, rows: Tensor, texts: Texts, tokens: Tensor) -> Tensor:
        """Adds to the critic's gradient; its loss."""
        mask = e.mask[rows]
        old, returns = e.values[rows][mask], e.returns[rows][mask]
        with autocast(self.world.device, self.on.precision):
            new = self._values(texts)
            all_of_it = torch.ones_like(new, dtype=torch.bool)
            loss = value_loss(new, old, returns, all_of_it, self.config.value_clip)
        (loss.loss / tokens).backward()
        return loss.loss.detach() / tokens

    def _update(self, step: int, rates: Rates) -> float | None:
        """One step of the optimizer; the norm of the policy's gradient. None: it was left out."""
        norms = {"policy": 0.0}
        for part, module in self.models.named_children():
            if part == "policy" and step < self.config.critic_warmup:
                continue
            add_gradients(module, self.world)
            limit = self.config.optim.clip or math.inf
            norms[part] = float(nn.utils.clip_grad_norm_(module.parameters(), limit))
            if not math.isfinite(norms[part]):
                self.optimizer.zero_grad(set_to_none=True)
                self.leave_out(step + 1, f"the gradient norm of the {part} is {norms[part]}")
                return None
        for group in self.optimizer.param_groups:
            set_rate(group, getattr(rates, group["part"]))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norms["policy"]

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """Adds the seconds of a block to a phase of the step."""
        start, self.doing = time.perf_counter(), name
        yield
        if self.world.device.type == "cuda":
            torch.cuda.synchronize()
        self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - start


def appraised(
    texts: Texts,
    ended: Tensor,
    rewards: Tensor,
    written: Tensor,
    table: Tensor,
    coefficient: float,
    config: PpoConfig,
) -> Experience:
    """Rewards and values become advantages. table: (B, A, 4), see `Ppo.explore`."""
    mask = texts.mask(table.size(1))
    logprobs, spread, values, reference = table.unbind(2)
    if config.truncated is not None:
        rewards = torch.where(ended, rewards, config.truncated)
    token_rewards = kl_rewards(rewards, logprobs, reference, mask, coefficient)
    if config.whiten_rewards:
        token_rewards = masked_whiten(token_rewards, mask, shift_mean=False)
    advantages, returns = gae(token_rewards, values, mask, config.gamma, config.gae)
    return Experience(
        texts=texts,
        mask=mask,
        ended=ended,
        rewards=rewards,
        written=written,
        logprobs=logprobs,
        reference=reference,
        values=values,
        entropy=spread,
        advantages=masked_whiten(advantages, mask),
        returns=returns,
    )


def padded(ids: Tensor, room: int) -> Tensor:
    """(B, T) with zeros behind up to `room` columns."""
    return nn.functional.pad(ids, (0, room - ids.size(1)))


def together(rows: list[Tensor], parts: list[Tensor], empty: Tensor, world: World) -> Tensor:
    """The rows that each process has, put in their places of `empty`; the same in all.

    Places are filled by one process each, so adding up does no arithmetic.
    """
    whole = empty.to(world.device)
    for chosen, part in zip(rows, parts, strict=True):
        whole[chosen.to(world.device)] = part.to(world.device)
    if world.size > 1:
        dist.all_reduce(whole)
    return whole


def add_gradients(module: nn.Module, world: World) -> None:
    """Gradients of all processes added up; one that had no micro batch has zeros."""
    if world.size == 1:
        return
    parameters = list(module.parameters())
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.flatten() for p in parameters])  # type: ignore[union-attr]
    dist.all_reduce(flat)
    for parameter, part in zip(
        parameters, flat.split([p.numel() for p in parameters]), strict=True
    ):
        parameter.grad = part.view_as(parameter)
