"""Rankings of answers from rows: pairs, transcripts, rankings, ratings, choices.

    Unit -> read_rows -> Row -> Ranking (of two answers or more, with scores)

All schemas end as the same record: some answers to one prompt, the higher score the better one.
Blank answers are taken out of a ranking, and one in which no answer is better than another (equal
scores, or the very same text) is left out and told to `skip`. So is a pair whose sides disagree
before the last answer, for then nobody compared two answers to the same prompt: in hh-rlhf's
transcripts an answer may go on after a blank line as another "Assistant:" turn, so turns of one
speaker are joined first, after which all 1,650 of its harmless test set agree.
"""

import re
from collections.abc import Callable, Iterator
from itertools import combinations, groupby
from typing import NamedTuple

from llm.align_config import PreferenceDataConfig
from llm.chat import Conversation, Turn
from llm.conversations import is_blank, role_of, turn_of, turns_in, with_system
from llm.row import NOTHING, Row, Skip, ignore
from llm.rows import read_rows
from llm.shards import Unit


class Ranking(NamedTuple):
    """Answers to one prompt and what people think of them; equal scores are a tie."""

    prompt: Conversation
    answers: tuple[str, ...]
    scores: tuple[float, ...]
    """Higher is better."""
    margin: float | None = None
    """How much better the better one is, if somebody said so."""


def read_rankings(
    unit: Unit, config: PreferenceDataConfig, skip: Skip = ignore
) -> Iterator[Ranking]:
    """Each has a strict pair; `skip` is told why others are left out.

    Reasons are "tie", "empty answer" and "different prompts".
    """
    for ranking in rankings_of(read_rows(unit, config), config.schema):
        if ranking is None:
            skip("different prompts")
            continue
        written = without_blanks(ranking)
        if strict_pairs(written):
            yield written
        else:
            skip("tie" if written.answers == ranking.answers else "empty answer")


def rankings_of(rows: Iterator[Row], schema: str) -> Iterator[Ranking | None]:
    """What rows say; None where a row's sides have different prompts."""
    if schema == "ratings":
        yield from rated(rows)
    else:
        yield from map(RANKING_OF[schema], rows)


def without_blanks(ranking: Ranking) -> Ranking:
    """The answers in which something is said."""
    kept = [i for i, answer in enumerate(ranking.answers) if not is_blank(answer)]
    return ranking._replace(
        answers=tuple(ranking.answers[i] for i in kept),
        scores=tuple(ranking.scores[i] for i in kept),
    )


def strict_pairs(ranking: Ranking) -> list[tuple[int, int]]:
    """Which answers are better than which others."""
    answers, scores = ranking.answers, ranking.scores
    return [
        (i, j) if scores[i] > scores[j] else (j, i)
        for i, j in combinations(range(len(answers)), 2)
        if scores[i] != scores[j] and answers[i] != answers[j]
    ]


# -- schemas ---------------------------------------------------------------------------------------


def pair(row: Row) -> Ranking | None:
    """A better and a worse answer: texts, messages, or whole conversations."""
    return compared(row, side(row, "chosen"), side(row, "rejected"))


def transcripts(row: Row) -> Ranking | None:
    """Two conversations as one text each."""
    return compared(row, transcript(row, "chosen"), transcript(row, "rejected"))


def ranking(row: Row) -> Ranking:
    """Several answers, from best to worst or with ranks."""
    answers = tuple(answer_in(row, item, "answers") for item in row.list_at("answers"))
    return Ranking(prompt_of(row), answers, tuple(-rank for rank in ranks(row, len(answers))))


def ranks(row: Row, count: int) -> list[float]:
    """Place of each answer, from 1."""
    if row.get("ranks") in (NOTHING, None):
        return [float(place) for place in range(1, count + 1)]
    where = f"at {row.column('ranks')!r}"
    found = [row.number_of(rank, where) for rank in row.list_at("ranks")]
    if len(found) != count:
        raise row.error(f"has {len(found)} ranks for {count} answers; expected one each")
    return found


def rated(rows: Iterator[Row]) -> Iterator[Ranking]:
    """Rows that stand together and have one prompt, each an answer and its rating."""
    for prompt, group in groupby(map(rating, rows), key=lambda found: found[0]):
        answers, scores = zip(*((answer, score) for _, answer, score in group), strict=True)
        yield Ranking(prompt, answers, scores)


def rating(row: Row) -> tuple[Conversation, str, float]:
    """A row of a prompt, an answer and its rating."""
    score = row.number_of(row.required("rating"), f"at {row.column('rating')!r}")
    return prompt_of(row), answer_in(row, row.required("answer"), "answer"), score


def choice(row: Row) -> Ranking:
    """Two answers and the number of the better one; any other number is a tie."""
    answers = tuple(answer_in(row, row.required(name), name) for name in ("first", "second"))
    value = row.required("preference")
    number = 0 if value is None else row.number_of(value, f"at {row.column('preference')!r}")
    return Ranking(prompt_of(row), answers, (float(number == 1), float(number == 2)))


RANKING_OF: dict[str, Callable[[Row], Ranking | None]] = {
    "pairs": pair,
    "transcripts": transcripts,
    "ranking": ranking,
    "choice": choice,
}


# -- parts of a row --------------------------------------------------------------------------------


def compared(row: Row, chosen: Conversation, rejected: Conversation) -> Ranking | None:
    """Two sides that end with the answers and, if they are longer, begin with the prompt."""
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or turns[-1].role != "assistant":
            found = f"a turn of the {turns[-1].role}" if turns else "nothing"
            raise row.error(f"ends with {found} in {name!r}; expected an answer of the assistant")
    before = chosen[:-1]
    if said(before) != said(rejected[:-1]):
        return None
    prompt = with_system(row, before) if before else prompt_of(row)
    return Ranking(prompt, (chosen[-1].text, rejected[-1].text), (1.0, 0.0), margin(row))


def said(turns: Conversation) -> tuple[tuple[str, str], ...]:
    """Who says what, whatever its weight."""
    return tuple((turn.role, turn.text) for turn in turns)


def margin(row: Row) -> float | None:
    """How much better the better answer is."""
    value = row.get("margin")
    if value is NOTHING or value is None:
        return None
    found = row.number_of(value, f"at {row.column('margin')!r}")
    if found < 0:
        raise row.error(f"has the margin {found}; the better answer is better by 0 or more")
    return found


def prompt_of(row: Row) -> Conversation:
    """What is answered: a text, or messages."""
    value = row.required("prompt")
    if not isinstance(value, list):
        return with_system(row, (Turn("user", row.text("prompt")),))
    turns = turns_in(row, value, row.column("prompt"))
    if not turns:
        raise row.error("has a prompt without messages; expected one at least")
    return with_system(row, turns)


def side(row: Row, field: str) -> Conversation:
    """An answer as a text or as a message, or a conversation that ends with it."""
    value, place = row.required(field), row.column(field)
    if isinstance(value, list):
        return turns_in(row, value, place)
    if isinstance(value, dict):
        return (turn_of(row, value, f"at {place}"),)
    return (Turn("assistant", row.text(field)),)


def answer_in(row: Row, value: object, field: str) -> str:
    """An answer as a text or as a message."""
    where = f"at {row.column(field)!r}"
    if not isinstance(value, dict):
        return row.text_of(value, where)
    turn = turn_of(row, value, where)
    if turn.role != "assistant":
        raise row.error(f"has a turn of the {turn.role} {where}; expected the assistant's")
    return turn.text


def transcript(row: Row, field: str) -> Conversation:
    """The turns of a text in which each begins with its speaker, after an empty line.

    What precedes the first is a system prompt; what one speaker says in several turns is one.
    """
    names = "|".join(map(re.escape, ("Human", "Assistant", *row.config.roles)))
    first, *rest = re.split(rf"(?:\A|\n\n)({names}):", row.text(field))
    if not rest:
        raise row.error(
            f"has no turns at {row.column(field)!r}; expected a text in which each begins with "
            'a line "Human:" or "Assistant:" after an empty one; of other data say schema:'
        )
    turns = [] if is_blank(first) else [Turn("system", first.strip())]
    where = f"at {row.column(field)!r}"
    named = zip(rest[::2], rest[1::2], strict=True)
    spoken = [(role_of(row, name, where), text) for name, text in named]
    for role, parts in groupby(spoken, key=lambda part: part[0]):
        turns.append(Turn(role, "\n\n".join(text.strip() for _, text in parts)))
    return tuple(turns)
