"""What people say about answers, and what training makes of it.

    rating      thumbs up or down for one answer
    ranking     two to eight answers to one prompt, each with its place; equal places are a tie
    edit        an answer as it should have been
    withdrawal  what somebody said before is to be forgotten

Each has an id that the page draws, so that one which is sent twice is kept once. Sizes are bounded
because the texts are somebody else's. `rows` is what the `reward` and `sft` stages read, in schemas
of llm/align_config.py.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import Field, StringConstraints, TypeAdapter

from llm.chat import Role
from llm.config import record

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
Name = Annotated[str, MaxLen(200)]
Text = Annotated[str, MaxLen(100_000)]
Place = Annotated[int, Ge(1), Le(8)]


@record
class Message:
    """A turn of the conversation that was answered."""

    role: Role
    content: Text


@record
class SamplingSaid:
    """How the answers were chosen, as far as the page said it; none: the server's default."""

    temperature: Annotated[float, Ge(0), Le(2)] | None = None
    top_p: Annotated[float, Ge(0), Le(1)] | None = None
    max_tokens: Annotated[int, Ge(0), Le(1 << 31)] | None = None
    seed: Annotated[int, Ge(-(1 << 63)), Le((1 << 63) - 1)] | None = None


@record
class Said:
    """What all judgements have."""

    id: Id
    consent: Literal[True]
    """That it may be kept and learned from; nothing is taken without."""
    model: Name
    artifact: Name
    """What was served under the model's name when it answered."""
    prompt: Annotated[tuple[Message, ...], MinLen(1), MaxLen(500)]
    sampling: SamplingSaid = field(default_factory=SamplingSaid)
    replaces: Id | None = None
    """What the same person said of the same answers before, and takes back."""
    time: float = 0.0
    """Seconds since 1970 at which the server took it; whatever the page says is replaced."""


@record
class Rating(Said):
    """Thumbs up (1) or down (-1)."""

    kind: Literal["rating"]
    answer: Text
    rating: Literal[-1, 1]


@record
class Ranking(Said):
    """Places of answers, 1 the best."""

    kind: Literal["ranking"]
    answers: Annotated[tuple[Text, ...], MinLen(2), MaxLen(8)]
    ranks: Annotated[tuple[Place, ...], MinLen(2), MaxLen(8)]


@record
class Edit(Said):
    """What the assistant said, and what it should have said."""

    kind: Literal["edit"]
    answer: Text
    edited: Annotated[Text, MinLen(1)]


@record
class Withdrawal:
    """Ids of what is to be forgotten."""

    kind: Literal["withdrawal"]
    id: Id
    forget: Annotated[tuple[Id, ...], MinLen(1)]
    time: float = 0.0


Opinion = Rating | Ranking | Edit
Judgement = Annotated[Opinion | Withdrawal, Field(discriminator="kind")]

JUDGEMENT: TypeAdapter[Opinion | Withdrawal] = TypeAdapter(Judgement)
"""Reads and writes them as JSON; strict."""

KINDS = ("rating", "ranking", "edit", "withdrawal")

MOST_FORGOTTEN = 10_000
"""Ids in a withdrawal as it comes; what they had replaced is added to it."""

SCHEMAS = {"rankings": "ranking", "ratings": "ratings", "chats": "messages"}
"""Folders of the store, and how `reward` and `sft` read them."""


def objection(said: Opinion | Withdrawal) -> tuple[str, str] | None:
    """What no schema can say is wrong with it: field and message."""
    if isinstance(said, Withdrawal):
        found = f"{len(said.forget)} ids; at most {MOST_FORGOTTEN} are allowed; send several"
        return ("forget", found) if len(said.forget) > MOST_FORGOTTEN else None
    if said.prompt[-1].role != "user":
        return "prompt", f"prompt ends with the {said.prompt[-1].role}; expected the user"
    if isinstance(said, Ranking) and len(said.ranks) != len(said.answers):
        found = f"{len(said.ranks)} ranks for {len(said.answers)} answers"
        return "ranks", f"{found}; expected one each, 1 for the best, equal ones for a tie"
    if isinstance(said, Edit) and (not said.edited.strip() or said.edited == said.answer):
        return "edited", "edited says nothing, or the same as the answer; expected a better one"
    return None


def bucket_of(said: Opinion, buckets: int) -> int:
    """Which part of the store holds what is said of a prompt."""
    text = "\0".join(f"{message.role}\0{message.content}" for message in said.prompt)
    return hashlib.sha256(text.encode()).digest()[0] % buckets


# -- rows for training -----------------------------------------------------------------------------


def rows(said: Iterable[Opinion]) -> dict[str, list[dict[str, Any]]]:
    """Rows by folder; what was taken back by a later judgement is left out.

    `said` holds all that was said of some prompts, in order. Ratings of one prompt come together,
    as the schema wants them: only beside another one is a rating a comparison.
    """
    opinions = list(said)
    gone = {one.replaces for one in opinions}
    made: dict[str, list[dict[str, Any]]] = {folder: [] for folder in SCHEMAS}
    for one in opinions:
        if one.id not in gone:
            for folder, row in rows_of(one):
                made[folder].append(row)
    made["ratings"] = together(made["ratings"])
    return made


def together(ratings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of one prompt next to each other, prompts in the order in which they came."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in ratings:
        groups.setdefault(repr(row["prompt"]), []).append(row)
    return [row for group in groups.values() for row in group]


def rows_of(said: Opinion) -> list[tuple[str, dict[str, Any]]]:
    """The rows of one judgement, each with its folder."""
    row: dict[str, Any]
    prompt = [{"role": turn.role, "content": turn.content} for turn in said.prompt]
    about = {
        "id": said.id,
        "time": said.time,
        "model": said.model,
        "artifact": said.artifact,
        "sampling": {key: value for key, value in vars(said.sampling).items() if value is not None},
    }
    if isinstance(said, Rating):
        row = {"prompt": prompt, "answer": said.answer, "rating": said.rating}
        return [("ratings", row | about)]
    if isinstance(said, Ranking):
        row = {"prompt": prompt, "answers": list(said.answers), "ranks": list(said.ranks)}
        return [("rankings", row | about)]
    better = {"prompt": prompt, "answers": [said.edited, said.answer], "ranks": [1, 2]}
    messages = [*map(unlearned, prompt), {"role": "assistant", "content": said.edited}]
    return [("rankings", better | about), ("chats", {"messages": messages} | about)]


def unlearned(message: dict[str, Any]) -> dict[str, Any]:
    """A turn before the corrected one: nobody said that what the model wrote there was good."""
    return message | {"weight": 0} if message["role"] == "assistant" else message
