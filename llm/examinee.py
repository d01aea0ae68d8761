"""A model that is asked things, many at a time: how likely texts are, what it writes, what answers
are worth to it. All that an evaluation needs of models is here; what is made of it is elsewhere.

`Desk.ask` does it right here; cluster/evaluate.py has the same `ask` over a cluster.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from llm.artifact import read_model
from llm.chat import Conversation, Template
from llm.chat_artifact import is_chat
from llm.continuations import Manner, continuations, greedy
from llm.likelihood import Asked, Likelihood, likelihoods
from llm.measured_text import windows
from llm.memorisation import longest_common, same_from_start
from llm.packing import rounded
from llm.reward import read_scorer
from llm.tokenizer import Tokenizer
from llm.tokenizer_file import read_tokenizer, tokenizer_in
from llm.world import Precision, World, fastest_precision


class Request(NamedTuple):
    """How likely is an answer behind a prompt, or behind turns, if the model talks?"""

    prompt: str
    answer: str
    turns: Conversation = ()


class Opening(NamedTuple):
    """What a model is to go on from: a text, or turns, if the model talks."""

    prompt: str
    turns: Conversation = ()


class Beginning(NamedTuple):
    """Tokens of a document that a model is given, and the text that follows them there."""

    text: str
    given: int
    """Tokens."""


class Answered(NamedTuple):
    """An answer that is to be judged."""

    turns: Conversation
    answer: str


class Ask(Protocol):
    """Whoever asks models."""

    def __call__(self, verb: str, folder: Path, items: Sequence[Any], how: Any = None) -> list[Any]:
        """What the model of a folder finds of each item."""


class Desk:
    """Asks models in this process; holds the one that was asked last."""

    def __init__(self, precision: Precision | str = "fp32") -> None:
        self.device = World.current().device
        auto = precision == "auto"
        self.precision: Any = fastest_precision(self.device) if auto else precision
        self.held: tuple[str, Path, Any] | None = None

    def ask(self, verb: str, folder: Path, items: Sequence[Any], how: Any = None) -> list[Any]:
        """See `Ask`."""
        make, method = VERBS[verb]
        if self.held is None or self.held[:2] != (make.__name__, folder):
            self.held = None  # before the next one is read
            self.held = make.__name__, folder, make(folder, self.device, self.precision)
        return method(self.held[2], items, how)


class Examinee:
    """A model that writes."""

    def __init__(self, folder: Path, device: torch.device, precision: Precision) -> None:
        model, self.tokenizer = read_model(folder)
        self.model, self.precision = model.to(device), precision
        self.template = Template(self.tokenizer) if is_chat(folder) else None

    def likelihoods(self, requests: Sequence[Request], how: None) -> list[Likelihood]:
        """How likely each answer is."""
        return likelihoods(self.model, self._asked(requests), self.precision)

    def texts(self, texts: Sequence[str], how: None) -> list[Likelihood]:
        """How likely whole texts are, each token being told as much of what precedes it as the
        context holds."""
        ids = self.tokenizer.encode_batch(list(texts))
        parts = [windows(self.tokenizer.eos, one, self.model.config.context) for one in ids]
        found = iter(likelihoods(self.model, [p for part in parts for p in part], self.precision))
        return [added([next(found) for _ in part]) for part in parts]

    def write(self, openings: Sequence[Opening], manner: Manner) -> list[str]:
        """What it writes behind each."""
        prompts = [self._opening(one) for one in openings]
        return continuations(
            self.model, self.tokenizer, prompts, manner, self.template, self.precision
        )

    def recall(self, beginnings: Sequence[Beginning], tokens: int) -> list[tuple[int, int, str]]:
        """How many of `tokens` tokens it writes as the document has them, from the first on; the
        longest run of characters that it writes and the document holds; what it writes. Nothing
        for documents that end too soon: (-1, 0, "").
        """
        ids = self.tokenizer.encode_batch([one.text for one in beginnings])
        pairs = list(zip(ids, (one.given for one in beginnings), strict=True))
        long = [(row, given) for row, given in pairs if len(row) >= given + tokens]
        prompts = [[self.tokenizer.eos, *row[:given]] for row, given in long]
        written = iter(greedy(self.model, prompts, tokens, never_ends, (), self.precision))
        return [
            recalled(self.tokenizer, row, given, next(written))
            if len(row) >= given + tokens
            else (-1, 0, "")
            for row, given in pairs
        ]

    def _opening(self, opening: Opening) -> list[int]:
        if opening.turns and self.template is not None:
            return self.template.prompt(opening.turns)
        return self.tokenizer.encode(opening.prompt) or [self.tokenizer.eos]

    def _asked(self, requests: Sequence[Request]) -> list[Asked]:
        """As tokens; each prompt is cut into tokens once."""
        known: dict[Any, list[int]] = {}
        return [self._ids(request, known) for request in requests]

    def _ids(self, request: Request, known: dict[Any, list[int]]) -> Asked:
        prompt, answer, turns = request
        if turns and self.template is not None:
            if turns not in known:
                known[turns] = self.template.prompt(turns)
            begin = known[turns]
            return Asked((*begin, *self.template.answer(answer)), len(begin))
        return behind(self.tokenizer, prompt, answer, known)


def behind(tokenizer: Tokenizer, prompt: str, answer: str, known: dict[Any, list[int]]) -> Asked:
    """A text and what follows it, cut into tokens as one; spaces at the seam belong to the answer.

    An empty prompt is the end of text, which precedes every text in training; another is read as it
    stands. Both is what lm-eval does.
    """
    text = prompt.rstrip()
    answer = prompt[len(text) :] + answer
    if not text:
        return Asked((tokenizer.eos, *(tokenizer.encode(answer) or [tokenizer.eos])), 1)
    if text not in known:
        known[text] = tokenizer.encode(text)
    whole = tokenizer.encode(text + answer)
    if len(whole) < 2:  # one token, perhaps the unknown one, is all of it
        return Asked((tokenizer.eos, *(whole or [tokenizer.eos])), 1)
    return Asked(tuple(whole), max(1, min(len(known[text]), len(whole) - 1)))


def added(parts: list[Likelihood]) -> Likelihood:
    """The windows of a text together."""
    return Likelihood(
        sum(one.logprob for one in parts),
        all(one.greedy for one in parts),
        sum(one.tokens for one in parts),
    )


def never_ends(number: int, ids: list[int]) -> bool:
    """A document is recalled as far as it is asked for."""
    return False


def recalled(
    tokenizer: Tokenizer, ids: list[int], given: int, written: list[int]
) -> tuple[int, int, str]:
    """What of it stands in the document."""
    text = tokenizer.decode(written)
    same = same_from_start(ids[given:], written)
    return same, longest_common(text, tokenizer.decode(ids[given:])), text


class RewardExaminee:
    """A reward model."""

    def __init__(self, folder: Path, device: torch.device, precision: Precision) -> None:
        scorer, self.normaliser = read_scorer(folder)
        self.scorer, self.device = scorer.to(device), device
        self.template = Template(read_tokenizer(tokenizer_in(folder)))

    @torch.no_grad()
    def rewards(self, answered: Sequence[Answered], how: None) -> list[float]:
        """What each answer is worth, in standard deviations of answers that people preferred."""
        context = self.scorer.body.config.context
        rows = [
            [*self.template.prompt(one.turns), *self.template.answer(one.answer)][-context:]
            for one in answered
        ]
        found = torch.zeros(len(rows))
        for part in by_length(rows):
            lengths = torch.tensor([len(rows[i]) for i in part])
            ids = torch.zeros(len(part), rounded(int(lengths.max())), dtype=torch.int64)
            for row, i in zip(ids, part, strict=True):
                row[: len(rows[i])] = torch.tensor(rows[i])
            scores = self.scorer.rewards(ids.to(self.device), lengths.to(self.device))
            found[torch.tensor(part)] = self.normaliser(scores).cpu()
        return found.tolist()


TOGETHER = 16
"""Answers that a reward model reads at once."""


def by_length(rows: list[list[int]]) -> list[list[int]]:
    """Numbers of rows, those of like length together."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    return [order[start : start + TOGETHER] for start in range(0, len(order), TOGETHER)]


VERBS: dict[str, tuple[Any, Callable[..., list[Any]]]] = {
    "likelihoods": (Examinee, Examinee.likelihoods),
    "texts": (Examinee, Examinee.texts),
    "write": (Examinee, Examinee.write),
    "recall": (Examinee, Examinee.recall),
    "rewards": (RewardExaminee, RewardExaminee.rewards),
}
"""What can be asked, of what, and who answers."""
