"""Conversations and comparisons: which schema a file of rows has, and where its fields are.

A schema fits if the readers of the training itself (llm/conversations.py, llm/rankings.py) read the
first rows with it, so what is found here is what `run` will accept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, product

from jobs.found_heads import Head, suffix_of
from jobs.stages import PYDOC
from llm.align_config import FIELDS, ChatDataConfig, PreferenceDataConfig
from llm.chat import Conversation, Turn
from llm.conversations import question_of, read_conversations
from llm.errors import DataError, UserError
from llm.filesystem import Found, find
from llm.rankings import read_rankings
from llm.row import NOTHING, Row, follow
from llm.rows import read_rows, row_units

Columns = dict[str, str]

QUESTIONS = ("question", "instruction", "prompt", "query", "input", "问题", "提问")
ANSWERS = (
    "answer",
    "output",
    "response",
    "completion",
    "reply",
    "instances.0.output",
    "回答",
    "答案",
)
BETTER = ("chosen", "response_chosen", "response_j", "better", "preferred")
WORSE = ("rejected", "response_rejected", "response_k", "worse", "dispreferred")
ASKED = ("prompt", "question", "instruction", "query", "input", "conversations", "messages")
FIRST = ("first", "output_1", "response_a", "answer_1", "response_0")
SECOND = ("second", "output_2", "response_b", "answer_2", "response_1")
TALKS = ("conversation", "dialog", "dialogue", "turns")

TRIED = 20
"""Rows that a schema is tried on."""

SAMPLE = 400
"""Rows of which the length is taken."""


@dataclass(frozen=True)
class RowSet:
    """A file of conversations or comparisons, and how it is read."""

    path: str
    schema: str
    columns: Columns = field(default_factory=dict)
    rows: int = 0
    bytes: int = 0
    """Of the text in all rows, about; of a comparison both sides."""
    long: int = 0
    """Bytes of a conversation that nine in ten do not exceed."""
    question: str = ""
    """One that is asked in it."""

    @property
    def compares(self) -> bool:
        """Whether its rows compare answers."""
        return self.schema in ("pairs", "transcripts", "ranking", "ratings", "choice")


CHATS_OF_PYDOC = RowSet(
    PYDOC, "question_answer", {}, 6_700, 1_100_000, 330, "What does os.path.join do?"
)
PAIRS_OF_PYDOC = RowSet(PYDOC, "pairs", {}, 6_700, 2_600_000, 480, "What does os.path.join do?")


def sets_at(place: str, compares: bool) -> list[RowSet]:
    """The sets of one kind in a file or folder; DataError if there is none."""
    if place == PYDOC:
        return [PAIRS_OF_PYDOC if compares else CHATS_OF_PYDOC]
    found = list(filter(None, map(rows_at, find(place).files)))
    wanted = [one for one in found if one.compares == compares]
    if not wanted:
        kind, other = (
            ("comparisons", "conversations") if compares else ("conversations", "comparisons")
        )
        there = f"only {other} are" if found else "none of the known schemas fits its rows"
        raise DataError(
            f"{place}: holds no {kind}: {there}; known are "
            f"{', '.join(SCHEMAS[compares])}, as jsonl, json or parquet"
        )
    return wanted


SCHEMAS = {
    False: ("messages", "sharegpt", "alpaca", "question_answer"),
    True: ("pairs", "transcripts", "ranking", "ratings", "choice"),
}


def rows_in(head: Head) -> RowSet | None:
    """A file of a folder as a set, if it is one."""
    if suffix_of(head.file.path).removesuffix(".gz").removesuffix(".zst") not in ROW_SUFFIXES:
        return None
    return rows_at(head.file)


ROW_SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")


def rows_at(file: Found) -> RowSet | None:
    """A file as a set of the first schema that fits; None if none does."""
    try:
        row = next(first_rows(file.path), None)
    except (UserError, OSError, ValueError):
        return None
    if row is None:
        return None
    for schema, columns in candidates(row):
        found = tried(file, schema, columns)
        if found is not None:
            return found
    return None


def first_rows(path: str) -> Iterator[Row]:
    """Rows as they are."""
    config = ChatDataConfig(shards=(path,))
    for unit in row_units(config):
        for row in read_rows(unit, config):
            if unit.format != "parquet":
                yield row
            else:
                yield Row(unit, row.place, dict.fromkeys(row.columns), config, row.columns)


def candidates(row: Row) -> Iterator[tuple[str, Columns]]:
    """Schemas with the columns that this row has."""
    ways = {
        "pairs": ways_of(prompt=(*ASKED, ""), chosen=BETTER, rejected=WORSE),
        "transcripts": ways_of(chosen=BETTER, rejected=WORSE),
        "choice": ways_of(prompt=ASKED, first=FIRST, second=SECOND),
        "ranking": ways_of(prompt=ASKED, answers=("answers", "responses", "completions")),
        "ratings": ways_of(prompt=ASKED, answer=ANSWERS, rating=("rating", "score")),
        "messages": ways_of(messages=("messages", *TALKS)),
        "sharegpt": ways_of(conversations=("conversations", *TALKS)),
        "alpaca": ways_of(
            instruction=("instruction",),
            input=("input", "context", "instances.0.input"),
            output=ANSWERS,
        ),
        "question_answer": ways_of(question=QUESTIONS, answer=ANSWERS),
    }
    for schema, found in ways.items():
        for columns in found:
            places = [place for place in columns.values() if place]
            if all(follow(row.value, place) is not NOTHING for place in places):
                told = {name: place for name, place in columns.items() if place and name != place}
                yield schema, told


def ways_of(**places: tuple[str, ...]) -> list[Columns]:
    """Every choice of a column for each field."""
    return [dict(zip(places, chosen, strict=True)) for chosen in product(*places.values())]


def tried(file: Found, schema: str, columns: Columns) -> RowSet | None:
    """The set, if the first rows can be read so."""
    try:
        talks = list(islice(talks_of(file.path, schema, columns), SAMPLE))
    except (UserError, OSError, ValueError):
        return None
    if not talks:
        return None
    sizes = sorted(sum(len(turn.text.encode()) for turn in talk) for talk in talks)
    rows = len(talks) if len(talks) < SAMPLE else number_of_rows(file.path)
    return RowSet(
        path=file.path,
        schema=schema,
        columns=columns,
        rows=rows,
        bytes=round(rows * sum(sizes) / len(sizes)),
        long=sizes[len(sizes) * 9 // 10],
        question=usable_question(talks),
    )


def talks_of(path: str, schema: str, columns: Columns) -> Iterator[Conversation]:
    """Conversations; of a comparison the prompt with all answers."""
    if schema in SCHEMAS[False]:
        config = ChatDataConfig(shards=(path,), schema=schema, columns=columns)  # type: ignore[arg-type]
        for unit in row_units(config):
            yield from read_conversations(unit, config)
        return
    compared = PreferenceDataConfig(shards=(path,), schema=schema, columns=columns)  # type: ignore[arg-type]
    for unit in row_units(compared):
        for ranking in read_rankings(unit, compared):
            yield (*ranking.prompt, *(Turn("assistant", text) for text in ranking.answers))


def number_of_rows(path: str) -> int:
    """Of a whole file."""
    config = ChatDataConfig(shards=(path,))
    return sum(1 for unit in row_units(config) for _ in read_rows(unit, config))


def usable_question(talks: list[Conversation]) -> str:
    """A short question in one line, to be asked at validations."""
    asked = [question_of(talk).strip() for talk in talks]
    good = [text for text in asked if "\n" not in text and 4 <= len(text.encode()) <= 100]
    return good[0] if good else ""


assert all(schema in FIELDS for schemas in SCHEMAS.values() for schema in schemas)
