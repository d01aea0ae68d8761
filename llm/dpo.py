"""Direct preference optimisation: learns from comparisons without a reward model or sampling.

Rafailov et al. 2023. The best policy for a reward, at a price `beta` for every nat of divergence
from the reference, has log p - log p_reference = reward / beta + a constant of the prompt. So that
difference, summed over an answer, is a reward that people's choices can teach directly. The
reference is the model that training starts with; what it thinks of each answer is worked out once
and kept (`llm.reference`), so a step costs one model, not two.

Nothing is dropped in training: the reference saw all activations, too.

N answers of a batch, R rows of T tokens, M tokens of answers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from llm.align_config import DpoConfig
from llm.align_task import AlignTask
from llm.artifact import read_model, write_model
from llm.attention import places_in
from llm.chat import Template
from llm.chat_artifact import write_chat_shape
from llm.data import Cursor
from llm.epochs import Draw
from llm.examples import Comparisons, rows_in
from llm.model import Transformer
from llm.ppo_math import logprobs_of
from llm.preference_loss import Pairs, dpo_loss
from llm.reference import Reference, kept
from llm.reply import reply
from llm.reward_data import (
    MEASURED,
    Answers,
    ComparisonPortion,
    answers_of,
    drawn,
    measure,
    pairs_in,
)
from llm.reward_score import agreement
from llm.run import Setting
from llm.size import flops_per_token
from llm.train import autocast


class DpoPolicy(nn.Module):
    """A model that is trained on its gains over the reference."""

    def __init__(self, model: Transformer, beta: float, label_smoothing: float) -> None:
        super().__init__()
        self.model, self.beta, self.label_smoothing = model, beta, label_smoothing
        self.eval()

    def train(self, mode: bool = True) -> "DpoPolicy":
        """Stays as it is, without dropout."""
        return super().train(False)

    def forward(self, pairs: Pairs, reference: Tensor, **answers: Tensor) -> Tensor:
        """Summed loss of comparisons of `Answers`; reference: (N,), their log-probability."""
        gains = answer_logprobs(self.model, Answers(**answers)) - reference
        return dpo_loss(gains, pairs, self.beta, self.label_smoothing)


def answer_logprobs(model: Transformer, answers: Answers) -> Tensor:
    """log p of each answer behind its prompt, its end included: (N,), fp32.

    Logits, most of the cost of a small model, are made for the answers' tokens only.
    """
    context = model.config.context  # padding may reach beyond it
    ids, owners = answers.ids[:, :context], answers.owners[:, :context]
    begins = answers.prompts[owners.clamp(min=0)]  # (R, T)
    own = ((places_in(owners) >= begins) & (owners >= 0))[:, 1:]  # (R, T - 1), what is predicted
    features = model.features(ids, documents=owners)[:, :-1]
    logprobs = logprobs_of(model.logits(features[own]), ids[:, 1:][own])  # (M,)
    return logprobs.new_zeros(len(answers.prompts)).index_add(0, owners[:, 1:][own], logprobs)


@dataclass(frozen=True, kw_only=True)
class DpoPortion(ComparisonPortion):
    """Comparisons, and the reference's log-probability of each of their answers: (N,)."""

    reference: np.ndarray

    def arguments(self, device: torch.device, step: int) -> dict[str, Any]:
        """Of `DpoPolicy.forward`."""
        reference = torch.tensor(self.reference, dtype=torch.float32, device=device)
        return {
            **answers_of(self.comparisons, device)._asdict(),
            "pairs": self.pairs(device),
            "reference": reference,
        }


class DpoRecipe:
    """The task's comparisons, measured by those held out."""

    score = "loss"
    takes_best = True

    def __init__(self, task: AlignTask, setting: Setting) -> None:
        assert isinstance(task.config, DpoConfig)
        self.task, self.config, self.setting = task, task.config, setting
        model, self.tokenizer = read_model(Path(task.start))
        self.template = Template(self.tokenizer)
        self.flops = flops_per_token(model.config, model.vocab_size)
        policy = DpoPolicy(model, self.config.beta, self.config.label_smoothing)
        self.module = policy.to(setting.world.device)
        self.comparisons = Comparisons(rows_in(Path(task.examples), "train"))
        self.held_out = Comparisons(rows_in(Path(task.examples), "validation"))
        # before a checkpoint is loaded: the module still is the reference
        self.reference = self._reference("train", self.comparisons, len(self.comparisons))
        measured = min(len(self.held_out), MEASURED)
        self.held_out_reference = self._reference("validation", self.held_out, measured)

    def _reference(self, part: str, comparisons: Comparisons, first: int) -> Reference:
        """What the model that training starts with thinks of the `first` comparisons' answers."""
        counts = comparisons.rows.lengths("scores")[:first]
        path = Path(self.task.folder) / "reference" / f"{part}.safetensors"
        work = partial(self._measure, comparisons, range(first), self._reference_logprobs)
        return Reference(kept(path, int(counts.sum()), work, self.setting.world), counts)

    def _measure(
        self, comparisons: Comparisons, which: range, of: Callable[[Answers], Tensor]
    ) -> np.ndarray:
        """Log-probabilities of all answers of some comparisons, as the module stands."""
        return measure(comparisons, which, of, self.setting.world, self.task.train.micro_batch)

    def _reference_logprobs(self, answers: Answers) -> Tensor:
        """A sign of life with each: they may take as long as a third of an epoch."""
        self.setting.beat("reference", 0)
        return self._logprobs(answers)

    def _logprobs(self, answers: Answers) -> Tensor:
        with autocast(self.setting.world.device, self.setting.precision):
            return answer_logprobs(self.module.model, answers)

    def announce(self, folder: Path) -> dict[str, Any]:
        """All that weights in the folder belong to; how many comparisons there are."""
        model = self.module.model
        write_chat_shape(folder, model.config, self.tokenizer)
        return {"comparisons": len(self.comparisons), "held_out": len(self.held_out)}

    def portions(self, cursor: Cursor) -> Iterator[DpoPortion]:
        """This process's comparisons."""
        train = self.task.train
        draw = Draw(len(self.comparisons), self.config.epochs, self.task.seed)
        sizes = self.comparisons.rows.lengths("ids")
        for numbers, first, after in drawn(draw, sizes, cursor, train, self.setting.world):
            yield DpoPortion(
                comparisons=tuple(self.comparisons[number] for number in numbers),
                size=train.micro_batch,
                first=first,
                after=after,
                reference=self.reference.of(numbers),
            )

    def validate(self) -> dict[str, float]:
        """How the gains of held-out answers agree with people; margin: by how much, in reward."""
        which = range(len(self.held_out_reference))
        if not which:
            return {}
        logprobs = self._measure(self.held_out, which, self._logprobs)
        gains = torch.from_numpy(logprobs - self.held_out_reference.values)
        pairs = pairs_in(self.held_out, which)
        beta = self.config.beta
        loss = dpo_loss(gains, pairs, beta, self.config.label_smoothing)
        won = (beta * pairs(gains)).numpy()
        figures = {"loss": loss.item() / len(which), "margin": float(won.mean())}
        return {**figures, **agreement(won)}

    def answers(self, step: int) -> Iterator[tuple[str, str]]:
        """What the model answers to the config's prompts."""
        for prompt in self.config.prompts:
            text = reply(self.module.model, self.template, prompt, self.config.answer_tokens)
            yield prompt, text

    def finish(self, folder: Path, cursor: Cursor) -> dict[str, Any]:
        """The weights."""
        write_model(folder, self.module.model)
        return {"comparisons": len(self.comparisons)}
