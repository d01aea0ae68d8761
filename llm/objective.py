"""What a pretraining learns from its rows of text, how that is measured, and what it shows for it.

next_token   bits per byte of held-out text
masked       loss of held-out masked tokens, and the share that is filled in right
spans        the same for the tokens of held-out spans
autoencode   loss of held-out words, and the share of their letters that come back from the code

The last three hide the same of the held-out text every time, whatever the run's seed, and put the
loss beside that of a model which knows nothing but how frequent each token is in this very text:
the best that can be had without looking at what is around (`unigram`).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from llm.batch import NextToken
from llm.complete import given_back, letters_right
from llm.data import Block
from llm.encoder import Encoder
from llm.encoder_decoder import EncoderDecoder
from llm.evaluate import evaluate, evaluating
from llm.families import Network
from llm.held_out import HeldOut
from llm.masking import Masked
from llm.model import Transformer
from llm.packing import PAD
from llm.run import Setting
from llm.spans import Spans
from llm.spelling import Words, letters, word_pairs, words_in
from llm.task import PretrainTask
from llm.tokenizer import Tokenizer
from llm.train import Portion, autocast
from llm.world import World

FIXED = 0
"""Seed of what is hidden of held-out text."""

MEASURED_WORDS = 2048
"""Different held-out words that a validation gives back at most."""


class Objective(Protocol):
    """One way to learn from rows of text."""

    score: str
    """The figure of `validate` that picks the best checkpoint, the lower the better."""

    def portion(self, block: Block) -> Portion:
        """Rows as what `fit` takes."""

    def validate(self, text: HeldOut) -> dict[str, float]:
        """Figures of held-out text, in all processes together."""


@dataclass(frozen=True)
class Subject:
    """Who learns what text, and where."""

    task: PretrainTask
    setting: Setting
    tokenizer: Tokenizer
    model: Network

    @property
    def world(self) -> World:
        """The processes."""
        return self.setting.world

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of the training."""
        return autocast(self.world.device, self.setting.precision)

    def mine(self, count: int) -> Iterator[slice]:
        """This process's share of so many rows, in micro batches."""
        size = self.task.train.micro_batch
        for start in range(self.world.rank * size, count, self.world.size * size):
            yield slice(start, min(start + size, count))


class NextTokens:
    """Every token of a text is to be foretold from those before it."""

    score = "bpb"

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        apart = subject.task.model.attend == "document"
        self.separator = subject.tokenizer.eos if apart else None

    def portion(self, block: Block) -> NextToken:
        """Rows, shorter ones at the start."""
        return NextToken(block, self.separator, self.subject.task.train.short_start)

    def validate(self, text: HeldOut) -> dict[str, float]:
        """Loss and bits per byte."""
        subject = self.subject
        assert isinstance(subject.model, Transformer)
        score = evaluate(
            subject.model,
            text,
            subject.tokenizer.eos,
            subject.world,
            subject.task.train.micro_batch,
            subject.autocast,
            self.separator,
        )
        return {"loss": score.loss, "bpb": score.bpb}


class MaskedTokens:
    """Tokens that are hidden, each for itself, are to be found out."""

    score = "loss"

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def portion(self, block: Block, seed: int | None = None) -> Masked:
        """Rows with what is hidden of them."""
        task, tokenizer = self.subject.task, self.subject.tokenizer
        seed = task.seed if seed is None else seed
        apart = task.model.attend == "document"
        return Masked(block, seed, tokenizer.eos, tokenizer.vocab_size, apart)

    def validate(self, text: HeldOut) -> dict[str, float]:
        """Loss and share of hidden tokens that are found out."""
        return found_out(self.subject, text, self.guesses)

    def guesses(self, block: Block) -> tuple[Tensor, Tensor]:
        """Logits (n, V) and what was hidden (n,)."""
        model, device = self.subject.model, self.subject.world.device
        assert isinstance(model, Encoder)
        inputs = self.portion(block, FIXED).arguments(device, 0)
        hidden = inputs["targets"] != PAD
        features = model.features(inputs["ids"], documents=inputs["documents"])[hidden]
        return model.logits(features), inputs["targets"][hidden]


class CorruptedSpans:
    """Spans of tokens that are hidden are to be written."""

    score = "loss"

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def portion(self, block: Block, seed: int | None = None) -> Spans:
        """Rows with what is hidden of them."""
        task, tokenizer = self.subject.task, self.subject.tokenizer
        seed = task.seed if seed is None else seed
        return Spans(block, seed, tokenizer.eos, tokenizer.vocab_size)

    def validate(self, text: HeldOut) -> dict[str, float]:
        """Loss and share right of the hidden tokens; sentinels, which are no text, do not count."""
        return found_out(self.subject, text, self.guesses)

    def guesses(self, block: Block) -> tuple[Tensor, Tensor]:
        """Logits (n, V) and what was hidden (n,), each token being told those before it."""
        model, subject = self.subject.model, self.subject
        assert isinstance(model, EncoderDecoder)
        inputs = self.portion(block, FIXED).arguments(subject.world.device, 0)
        targets = inputs["targets"]
        hidden = (targets >= 0) & (targets < model.first_sentinel)
        hidden &= targets != subject.tokenizer.eos
        features = model.write(inputs["begun"], model.read(inputs["ids"], inputs["real"]))
        return model.logits(features[hidden]), targets[hidden]


class WordCodes:
    """Words are to be given back from a narrow code."""

    score = "loss"

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.letters = letters(subject.tokenizer)

    def portion(self, block: Block) -> Words:
        """The words of rows."""
        return Words(block, self.subject.tokenizer.eos, self.letters)

    @torch.no_grad()
    def validate(self, text: HeldOut) -> dict[str, float]:
        """Loss, and shares of letters and words that come back, over different words."""
        subject, model = self.subject, self.subject.model
        assert isinstance(model, EncoderDecoder)
        eos, context = subject.tokenizer.eos, model.config.context
        found = (w for row in text.rows for w in words_in(row[1:], self.letters, context))
        words = list(dict.fromkeys(found))[:MEASURED_WORDS]
        totals = np.zeros(5)
        counts = np.zeros(model.vocab_size)
        for word in words:
            np.add.at(counts, [*word, eos], 1)
        with evaluating(model):
            for part in subject.mine(len(words)):
                pairs = word_pairs(words[part], eos, context)
                with subject.autocast():
                    loss = model(**pairs.arguments(subject.world.device)).item()
                    given = given_back(model, pairs, eos)
                totals += (loss, pairs.count, *letters_right(pairs, given, eos))
        loss, targets, of, right, whole = subject.world.sum(*totals)
        if not words:
            return {}
        return {
            "loss": loss / targets,
            "unigram": entropy(counts),
            "restored": right / of,
            "whole_words": whole / len(words),
        }


OBJECTIVES: dict[str, Callable[[Subject], Objective]] = {
    "next_token": NextTokens,
    "masked": MaskedTokens,
    "spans": CorruptedSpans,
    "autoencode": WordCodes,
}


# -- hidden tokens ---------------------------------------------------------------------------------


@torch.no_grad()
def found_out(
    subject: Subject, text: HeldOut, guesses: Callable[[Block], tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """Loss and share right of all hidden tokens, beside the loss of knowing frequencies alone."""
    frequent = frequencies(text, subject.tokenizer)
    total = right = known = count = 0.0
    with evaluating(subject.model):
        for part in subject.mine(len(text.rows)):
            with subject.autocast():
                logits, hidden = guesses(held_out_block(text, part))
            total += F.cross_entropy(logits.float(), hidden, reduction="none").double().sum().item()
            right += (logits.argmax(-1) == hidden).sum().item()
            known -= np.log(frequent[hidden.cpu().numpy()]).sum()
            count += len(hidden)
    total, right, known, count = subject.world.sum(total, right, known, count)
    if not count:
        return {}
    return {"loss": total / count, "unigram": known / count, "filled": right / count}


def held_out_block(text: HeldOut, part: slice) -> Block:
    """Rows of held-out text, each at its own place."""
    rows = np.arange(len(text.rows))[part]
    return Block(text.rows[part], np.zeros_like(rows), rows)


def frequencies(text: HeldOut, tokenizer: Tokenizer) -> np.ndarray:
    """Share of each token in the text, ends of text left out: (V,)."""
    ids = text.rows[:, 1:]
    counts = np.bincount(ids[(ids != PAD) & (ids != tokenizer.eos)], minlength=tokenizer.vocab_size)
    return counts / max(1, counts.sum())


def entropy(counts: np.ndarray) -> float:
    """Nats per token of a text in which each occurs so often."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
