"""A PPO training in one process of possibly many: load, step, guard, validate, save.

    python -m llm.ppo_run runs/NAME/ppo/FINGERPRINT/task.json FOLDER
    torchrun --nproc-per-node 2 -m llm.ppo_run TASK.json FOLDER

A checkpoint holds policy, critic, both optimizers' state, the price of a nat, what the guards
remember, the step, which is the position in the prompts, and the position in the text mixed in. All
randomness is drawn from (seed, step, row), so a run that is killed goes on with the same steps.

Guards end a training that went wrong without an error: its artifact is then the last checkpoint
whose answers were still in order. That is a result, not a failure: figures and a `guard` event say
what happened.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from llm import checkpoint
from llm.align_config import PpoConfig
from llm.alone import train_alone
from llm.artifact import read_model, write_model
from llm.chat import Template
from llm.chat_artifact import write_chat_shape
from llm.checkpoint import Position
from llm.config import CheckpointConfig
from llm.epochs import Draw
from llm.errors import DataError
from llm.examples import Comparisons, Prompt, Prompts, rows_in, shortened
from llm.experience import Experience, describe
from llm.faults import Guard
from llm.fell import telling_where
from llm.guards import (
    Figures,
    Memory,
    Verdict,
    judge,
    judge_ratio,
    judge_validation,
    shrunk,
    validated,
)
from llm.metrics import Event, RunLog, print_event
from llm.model import Transformer
from llm.optim import learning_rate
from llm.outside import Outside, Wish
from llm.ppo import Ppo, Rates, Updates
from llm.ppo_math import next_coefficient
from llm.ppo_memory import plan_memory
from llm.ppo_models import ActorCritic, make_ppo_optimizer, manner_of, read_critic, read_judge
from llm.ppo_task import PpoTask, read_ppo_task
from llm.ppo_validation import Compared, PpoValidation, best_and_worst
from llm.pretrain_mix import PretrainMix
from llm.pulse import Falls
from llm.reply import reply
from llm.roles import Local, Roles
from llm.rollout import Key
from llm.room import memory_of, require_room
from llm.run import MEASURED, Setting, beating, grant
from llm.saver import Saver

MakeRoles = Callable[[PpoTask, Setting, Transformer, Callable[[], None]], Roles]
"""Of a task, where it runs, the policy, and what to call whenever others have got on."""


def local_roles(task: PpoTask, on: Setting, policy: Transformer, _: Callable[[], None]) -> Roles:
    """This process writes and judges, too."""
    return Local(policy, read_judge(task, on))


class PpoRun:
    """One process's run of a task: `run` it once."""

    def __init__(
        self, task: PpoTask, outside: Outside, make_roles: MakeRoles = local_roles
    ) -> None:
        self.task, self.config = task, task.config
        self.on = on = Setting.current(task.config)
        self.outside, self.folder = outside, Path(task.folder)
        own = self.folder if self._first else None
        self.log = RunLog(own and own / "metrics.jsonl", outside.emit)
        self.falls = Falls(own, self.log)
        self.guard = Guard(self.config.faults, self.folder, on.world, outside, self.log)
        self.saver = Saver(self.task.checkpoints, _kept(self.config), on.world, outside, self.log)
        policy, tokenizer = read_model(Path(task.policy))
        self.template = Template(tokenizer)
        self.models = ActorCritic(policy, read_critic(task)).to(on.world.device)
        self.optimizer = make_ppo_optimizer(self.models, self.config.optim)
        self.context = min(policy.config.context, self.models.critic.body.config.context)
        self.prompts = Prompts(rows_in(Path(task.prompts), "train"))
        self.mix = self._mix()
        self.position = self._load()
        self.ppo = Ppo(
            self.models,
            self.optimizer,
            make_roles(task, on, policy, self._beat),
            manner_of(task, self.template),
            self.config,
            on,
            task.seed,
            self.guard.leave_out_not_finite,
            self.mix,
        )
        beating(self.models, self._beat)
        self.window: list[Event] = []
        self.figures: dict[str, Any] = {}

    @property
    def _first(self) -> bool:
        """Only the first process writes files."""
        return self.on.world.rank == 0

    def _beat(self) -> None:
        """A sign of life."""
        self.outside.beat(self.ppo.doing, self.position.step + 1)

    def _mix(self) -> PretrainMix | None:
        if not self.config.pretrain_weight:
            return None
        assert self.task.pretrain, "a pretrain_weight, but no pretraining"
        task, policy = Path(self.task.pretrain), Path(self.task.policy)
        context = self.models.policy.config.context
        return PretrainMix(task, policy, context, self.config.micro_batch, self.on)

    def _load(self) -> Position:
        """The models as they are, or the newest checkpoint."""
        self.coefficient, self.memory = self.config.kl.coefficient, Memory()
        position = self.saver.restore(self.models, self.optimizer)
        if not position:
            return Position()
        extra = dict(position.extra)
        self.coefficient = extra.pop("coefficient")
        self.memory = Memory.from_floats(extra)
        if self.mix:
            self.mix.open(position.cursor)
        return position

    def run(self) -> Event:
        """Train to the end, or to what guards stop; returns the final figures."""
        with telling_where(self.on.world.rank, lambda: self.position.step + 1, self.folder):
            return self._run()

    def _run(self) -> Event:
        steps, position = self.config.steps, self.position
        self._require_prompts()
        measured = position.step in (0, steps)
        self.log.rewind(position.step, MEASURED if measured else ())
        self.falls.started(position.step, self.on.world.size)
        self._announce()
        self.validation = self._make_validation()
        verdict = self._validate() if measured else None
        while position.step < steps and not stops(verdict):
            verdict = self._step()
        self.saver.close()
        if stops(verdict):
            self._take_back()
        return self._finish(verdict)

    def _require_prompts(self) -> None:
        if not len(self.prompts):
            raise DataError(
                f"data: {self.task.prompts} holds no prompt to train on; add conversations whose "
                "last turn answers a user, or hold out less (validation)"
            )

    def _announce(self) -> None:
        if self._first:
            write_chat_shape(self.folder, self.models.policy.config, self.template.tokenizer)
        reward = self.models.critic.body.config if self.task.reward else None
        bf16 = self.on.precision == "bf16"
        policy = self.models.policy
        gpu = self.on.world.device.type == "cuda"
        memory = plan_memory(
            policy.config, reward, policy.vocab_size, self.config, bf16=bf16, gpu=gpu
        )
        require_room(memory, memory_of(self.on.world.device))
        self.log(
            "start",
            self.position.step,
            steps=self.config.steps,
            parameters=sum(p.numel() for p in policy.parameters()),
            workers=self.on.world.size,
            device=str(self.on.world.device),
            precision=self.on.precision,
            prompts=len(self.prompts),
            kl_target=self.config.kl.target,
            memory=memory,
            pid=os.getpid(),
            time=time.time(),
        )

    # -- steps -------------------------------------------------------------------------------------

    def _step(self) -> Verdict | None:
        """Answer, judge the answers, learn from them; what a guard found, if it did."""
        start, step = time.perf_counter(), self.position.step
        prompts, keys = self._drawn(step)
        experience = self.ppo.explore(prompts, keys, self.coefficient)
        seen = describe(experience, self.coefficient)
        verdict = self._acted(
            judge(figures_of(seen, experience), self.memory, step, self.config.guards)
        )
        if stops(verdict):
            return verdict
        rates, found = self._rates(), list[Verdict]()
        updates = self.ppo.learn(step, experience, rates, lambda ratio: self._allows(ratio, found))
        if updates is None:
            return found[0]
        self._advance(experience, seen["kl"])
        seconds = time.perf_counter() - start
        self._report(seen, updates, rates, experience, seconds)
        return self._after_step()

    def _drawn(self, step: int) -> tuple[list[Prompt], list[Key]]:
        """The prompts of a step, each with the key of its randomness."""
        count, batch, seed = len(self.prompts), self.config.batch, self.task.seed
        epochs = -(-self.config.steps * batch // count)
        draw = Draw(count, epochs, seed)
        numbers = [draw.item(step * batch + row) for row in range(batch)]
        prompts = [self._cut(self.prompts[number]) for number in numbers if number is not None]
        return prompts, [(seed, step, row) for row in range(batch)]

    def _cut(self, prompt: Prompt) -> Prompt:
        """A prompt that leaves room for its answer; its oldest tokens give way."""
        room = self.context - self.config.answer_tokens
        return prompt._replace(ids=np.array(shortened(prompt.ids.tolist(), room)))

    def _rates(self) -> Rates:
        """Learning rates of the next step, halved as often as guards had it so."""
        lr = learning_rate(self.position.step, self.config.steps, self.config.optim)
        lr *= 0.5**self.memory.shrinks
        return Rates(lr, lr * self.config.critic_lr / self.config.optim.lr)

    def _allows(self, ratio: float, found: list[Verdict]) -> bool:
        """Whether the step may learn, as the ratios of its first minibatch are."""
        verdict = self._acted(
            judge_ratio(ratio, self.memory, self.position.step, self.config.guards)
        )
        if verdict and stops(verdict):
            found.append(verdict)
        return not stops(verdict)

    def _advance(self, experience: Experience, kl: float) -> None:
        """Move behind a step."""
        config, position = self.config, self.position
        position.step += 1
        position.tokens += int(experience.mask.sum())
        if self.mix:
            position.cursor = self.mix.cursor
        if config.kl.adaptive:
            self.coefficient = next_coefficient(
                self.coefficient, kl, config.kl.target, config.kl.horizon, config.batch
            )

    def _report(
        self,
        seen: dict[str, float],
        updates: Updates,
        rates: Rates,
        experience: Experience,
        seconds: float,
    ) -> None:
        """Log a step, or the mean of those since the last report."""
        step, steps = self.position.step, self.config.steps
        self.window.append(
            {
                **{name: value for name, value in seen.items() if name != "kl_error"},
                **asdict(updates),
                "lr": rates.policy,
                "tokens_per_second": int(experience.mask.sum()) / seconds,
                "seconds": seconds,
                "phases": self.ppo.phases,
            }
        )
        if step in (1, steps) or step % self.config.log_every == 0:
            figures = mean_of(self.window)
            self.window = []
            self.figures |= {name: figures[name] for name in ("reward", "kl", "entropy", "length")}
            eta = (steps - step) * figures["seconds"]
            self.log("step", step, steps=steps, **figures, eta=eta)

    def _after_step(self) -> Verdict | None:
        """Validate and save, if it is time."""
        config, step = self.config, self.position.step
        self.falls.stepped(step)
        last, verdict = step == config.steps, None
        if last or step % config.validate_every == 0:
            verdict = self._validate()
        wish = Wish(int(self.on.world.max(self.outside.wishes.take())[0]))
        if not stops(verdict) and (last or wish or step % config.checkpoint.every == 0):
            self._save()
        if wish and not (last or stops(verdict)):
            grant(wish, step, self.saver, self.falls)
        self.outside.beat("step", step)
        return verdict

    # -- validation and guards ---------------------------------------------------------------------

    def _make_validation(self) -> PpoValidation:
        """Held-out prompts, a batch at most, and comparisons."""
        held_out = Prompts(rows_in(Path(self.task.prompts), "validation"))
        count = min(len(held_out), self.config.batch)
        prompts = [self._cut(held_out[i]) for i in range(count)]
        return PpoValidation(self.ppo, prompts, self._compared(), self.task.seed)

    def _compared(self) -> Compared | None:
        if not self.task.comparisons:
            return None
        rows = rows_in(Path(self.task.comparisons), "validation")
        texts = best_and_worst(Comparisons(rows), self.context)
        return Compared(self.ppo, texts) if texts else None

    def _validate(self) -> Verdict | None:
        """Measure the policy on what is held out, and let it answer; what a guard found."""
        step, verdict = self.position.step, None
        figures = self.validation(self.coefficient)
        if figures:
            self.figures |= {f"validation_{name}": value for name, value in figures.items()}
            self.log("validation", step, **figures)
        if self._first:
            for prompt in self.config.prompts:
                policy, room = self.models.policy, self.config.answer_tokens
                self.log(
                    "sample", step, prompt=prompt, text=reply(policy, self.template, prompt, room)
                )
        if "preference" in figures and "reward" in figures:
            both = figures["reward"], figures["preference"]
            verdict = self._acted(judge_validation(*both, self.memory, step, self.config.guards))
            self.memory = validated(self.memory, *both)
        return verdict

    def _acted(self, verdict: Verdict | None) -> Verdict | None:
        """Say what a guard found, and halve the learning rate if that is its advice."""
        if verdict:
            self.log("guard", self.position.step + 1, **asdict(verdict))
            if verdict.action == "shrink":
                self.memory = shrunk(self.memory, self.position.step)
        return verdict

    def _save(self) -> None:
        """Commit everything together."""
        position = self.position
        position.extra = {"coefficient": self.coefficient, **self.memory.to_floats()}
        self.saver.save(self.models, self.optimizer, position)

    def _take_back(self) -> None:
        """Put the weights in place whose answers were in order for the last time.

        A checkpoint of this very step has the weights that a guard has just found fault with.
        """
        earlier = [
            path
            for path in checkpoint.steps(self.task.checkpoints)
            if not checkpoint.damage(path)
            and checkpoint.read_position(path).step < self.position.step
        ]
        if earlier:
            checkpoint.load_weights(self.models, earlier[-1] / "model.safetensors")
            self.figures["taken_back_to"] = checkpoint.read_position(earlier[-1]).step
            return
        start, _ = read_model(Path(self.task.policy))
        self.models.policy.load_state_dict(start.state_dict())
        self.figures["taken_back_to"] = 0

    def _finish(self, verdict: Verdict | None) -> Event:
        """Write the policy; the figures of this attempt for manifest and report."""
        figures: Event = {**self.figures, "tokens": self.position.tokens}
        if stops(verdict):
            assert verdict
            figures |= {"stopped": verdict.kind, "stopped_at": self.position.step}
        if self._first:
            write_model(self.folder, self.models.policy)
        self.log("end", self.position.step, time=time.time(), **figures)
        self.falls.ended(self.position.step)
        return figures


def _kept(config: PpoConfig) -> CheckpointConfig:
    """Two checkpoints at least: guards take a training back behind the newest."""
    kept = config.checkpoint
    return replace(kept, keep=replace(kept.keep, last=max(2, kept.keep.last), best=False))


def stops(verdict: Verdict | None) -> bool:
    """Whether a guard ends the training."""
    return verdict is not None and verdict.action == "stop"


def figures_of(seen: dict[str, float], experience: Experience) -> Figures:
    """What guards look at."""
    names = ("mismatch", "kl", "kl_error", "entropy", "length", "same")
    return Figures(answers=len(experience.texts), **{name: seen[name] for name in names})


def mean_of(window: list[Event]) -> Event:
    """The mean of each figure, those of the phases included."""
    return {
        name: mean_of([event[name] for event in window])
        if isinstance(value, dict)
        else sum(event[name] for event in window) / len(window)
        for name, value in window[-1].items()
    }


def ppo(task: PpoTask, outside: Outside) -> Event:
    """Run a task in this process of possibly many; returns its final figures."""
    return PpoRun(task, outside).run()


if __name__ == "__main__":
    train_alone(read_ppo_task, ppo, print_event, strategies=("ddp",))
