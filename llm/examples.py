"""What alignment learns from, as tokens: conversations, comparisons and prompts.

    index.json                     how many there are, and what was cut or left out
    train-00000.safetensors ...    and validation-00000.safetensors ...: rows (`llm.ragged`)

They are made once, by Ray tasks (`cluster.examples`), and mapped into memory by every worker.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llm.chat import Conversation, Template
from llm.errors import ArtifactError
from llm.ragged import Ragged, Row
from llm.rankings import Ranking

INDEX = "index.json"

CHAT = {"ids": np.int32, "weights": np.float32}
"""A conversation: its tokens, and what each of them weighs as a target."""

COMPARISON = {
    "ids": np.int32,
    "lengths": np.int64,
    "prompt": np.int64,
    "scores": np.float64,
    "margin": np.float64,
}
"""The token sequences of all answers, joined; their lengths; the prompt's length."""

PROMPT = {"ids": np.int32, "question": np.uint8, "reference": np.uint8}
"""A prompt's tokens; its last question and the data's own answer as UTF-8."""

LEAST_PROMPT = 4
"""A prompt keeps a 4th of the context, however long the answers are."""


class Comparison(NamedTuple):
    """Answers to one prompt. sequences: prompt and answer of each; scores: higher is better."""

    sequences: tuple[np.ndarray, ...]
    prompt: int
    scores: np.ndarray
    margin: float
    """NaN: the data has none."""


class Prompt(NamedTuple):
    """What is to be answered: tokens up to the answer, the last question, the data's answer."""

    ids: np.ndarray
    question: str
    reference: str


class Chats:
    """Conversations by number."""

    def __init__(self, rows: Ragged) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def ids(self, number: int) -> np.ndarray:
        """Tokens: (T,) int32."""
        return self.rows.get("ids", number)

    def weights(self, number: int) -> np.ndarray:
        """What each token weighs as a target: (T,) float32."""
        return self.rows.get("weights", number)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each conversation."""
        return self.rows.lengths("ids")


@dataclass(frozen=True)
class Comparisons:
    """Comparisons by number."""

    rows: Ragged

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Comparison:
        if number >= len(self):
            raise IndexError(number)

        def get(name: str) -> np.ndarray:
            return self.rows.get(name, number)

        sequences = np.split(get("ids"), np.cumsum(get("lengths"))[:-1])
        return Comparison(
            tuple(sequences), int(get("prompt")[0]), get("scores"), float(get("margin")[0])
        )


@dataclass(frozen=True)
class Prompts:
    """Prompts by number."""

    rows: Ragged

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Prompt:
        if number >= len(self):
            raise IndexError(number)
        ids, question, reference = (self.rows.get(name, number) for name in PROMPT)
        return Prompt(ids, question.tobytes().decode(), reference.tobytes().decode())


def rows_in(folder: Path, part: str) -> Ragged:
    """The rows of `train` or `validation` in a finished folder of examples."""
    read_index(folder)
    return Ragged(sorted(folder.glob(f"{part}-*.safetensors")))


def read_index(folder: Path) -> dict[str, Any]:
    """How many examples there are."""
    try:
        return json.loads((folder / INDEX).read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{folder / INDEX}: cannot be read ({error}); remove its folder and run again"
        ) from error


# -- from text to rows -----------------------------------------------------------------------------


class Cut(NamedTuple):
    """A row, or None if nothing is left to learn; whether something was cut off."""

    row: Row | None
    cut: bool = False


def chat_row(conversation: Conversation, template: Template, context: int, drop: bool) -> Cut:
    """A conversation cut at its end to context + 1 tokens; or, with `drop`, left out."""
    ids, weights = template.render(conversation)
    long = len(ids) > context + 1
    if long and drop:
        return Cut(None, True)
    ids, weights = ids[: context + 1], weights[: context + 1]
    return Cut({"ids": ids, "weights": weights} if weights.any() else None, long)


def comparison_row(ranking: Ranking, template: Template, context: int, drop: bool) -> Cut:
    """All answers behind one prompt, of which the oldest tokens give way."""
    prompt = template.prompt(ranking.prompt)
    answers = [template.answer(text) for text in ranking.answers]
    longest = max(map(len, answers))
    long = len(prompt) + longest > context
    if long and drop:
        return Cut(None, True)
    prompt = shortened(prompt, max(context // LEAST_PROMPT, context - longest))
    sequences = [(prompt + answer)[:context] for answer in answers]
    margin = np.nan if ranking.margin is None else ranking.margin
    row = {
        "ids": np.concatenate(sequences),
        "lengths": np.array([len(one) for one in sequences]),
        "prompt": np.array([len(prompt)]),
        "scores": np.array(ranking.scores),
        "margin": np.array([margin]),
    }
    return Cut(row, long)


def prompt_row(conversation: Conversation, template: Template, room: int) -> Cut:
    """What precedes the last answer, with at most `room` tokens."""
    asked, reference = conversation, ""
    if conversation[-1].role == "assistant":
        asked, reference = conversation[:-1], conversation[-1].text
    if not asked or asked[-1].role != "user":
        return Cut(None)
    ids = template.prompt(asked)
    row = {
        "ids": np.array(shortened(ids, room)),
        "question": as_bytes(asked[-1].text),
        "reference": as_bytes(reference),
    }
    return Cut(row, len(ids) > room)


def shortened(prompt: Sequence[int], room: int) -> list[int]:
    """A prompt without its oldest tokens; the first, which begins every conversation, stays."""
    if len(prompt) <= room:
        return list(prompt)
    return [prompt[0], *prompt[len(prompt) - room + 1 :]]


def as_bytes(text: str) -> np.ndarray:
    """A text as UTF-8, half surrogate pairs replaced."""
    return np.frombuffer(text.encode(errors="replace"), np.uint8)
