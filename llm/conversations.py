"""Conversations from rows: messages, ShareGPT, Alpaca, questions with answers.

    Unit -> read_rows -> Row -> turns -> Conversation

A speaker is known by the names that are usual for it, or by `roles` of the config. Rows without an
answer, or with one that is blank, are left out and told to `skip`: there is nothing to learn, or
only to fall silent. Other things that do not fit the schema are errors, for a mapping that is wrong
is wrong in every row.
"""

from collections.abc import Callable, Iterator
from typing import Any

from llm.align_config import ChatDataConfig
from llm.chat import Conversation, Role, Turn
from llm.read_json import named
from llm.row import NOTHING, Row, Skip, ignore, names
from llm.rows import read_rows
from llm.shards import Unit

SPEAKERS: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
"""Who is meant, in small letters, by the data sets that are in use."""


def read_conversations(
    unit: Unit, config: ChatDataConfig, skip: Skip = ignore
) -> Iterator[Conversation]:
    """Each has an answer; `skip` is told why a row gives none ("no answer", "empty answer")."""
    turns_of = TURNS_OF[config.schema]
    for row in read_rows(unit, config):
        conversation = with_system(row, turns_of(row))
        answers = [turn.text for turn in conversation if turn.role == "assistant"]
        if answers and not any(map(is_blank, answers)):
            yield conversation
        else:
            skip("empty answer" if answers else "no answer")


def question_of(conversation: Conversation) -> str:
    """The first user turn, or the first turn at all: what decides whether it is held out."""
    return next((t.text for t in conversation if t.role == "user"), conversation[0].text)


def with_system(row: Row, turns: Conversation) -> Conversation:
    """Turns that begin with the system prompt of the row or the config, if they have none."""
    if turns and turns[0].role == "system":
        return turns
    system = row.optional_text("system")
    system = row.config.system if is_blank(system) else system
    return turns if is_blank(system) else (Turn("system", system), *turns)


def is_blank(text: str) -> bool:
    """Whether there is nothing but white space."""
    return not text or text.isspace()


# -- schemas ---------------------------------------------------------------------------------------


def messages(row: Row) -> Conversation:
    """A list of messages."""
    return turns_at(row, "messages")


def sharegpt(row: Row) -> Conversation:
    """The same under another name."""
    return turns_at(row, "conversations")


def alpaca(row: Row) -> Conversation:
    """An instruction with an optional input below it, after what was said before."""
    instruction, material = row.text("instruction"), row.optional_text("input")
    question = instruction if is_blank(material) else f"{instruction}\n{material}".lstrip("\n")
    return (*history(row), Turn("user", question), Turn("assistant", row.text("output")))


def history(row: Row) -> Conversation:
    """Earlier questions and answers, in pairs."""
    turns: Conversation = ()
    if row.get("history") in (NOTHING, None):
        return turns
    for number, pair in enumerate(row.list_at("history")):
        where = f"at {row.column('history')}.{number}"
        if not isinstance(pair, list) or len(pair) != 2:
            raise row.error(f"has {named(pair)} {where}; expected a list [question, answer]")
        question, answer = (row.text_of(text, where) for text in pair)
        turns += (Turn("user", question), Turn("assistant", answer))
    return turns


def question_answer(row: Row) -> Conversation:
    """One question and its answer."""
    return Turn("user", row.text("question")), Turn("assistant", row.text("answer"))


TURNS_OF: dict[str, Callable[[Row], Conversation]] = {
    "messages": messages,
    "sharegpt": sharegpt,
    "alpaca": alpaca,
    "question_answer": question_answer,
}


# -- messages --------------------------------------------------------------------------------------


def turns_at(row: Row, field: str) -> Conversation:
    """A field that is a list of messages."""
    return turns_in(row, row.list_at(field), row.column(field))


def turns_in(row: Row, items: list[Any], place: str) -> Conversation:
    """The turns of a list of messages that lies at a place of a row."""
    return tuple(turn_of(row, item, f"at {place}.{i}") for i, item in enumerate(items))


def turn_of(row: Row, item: Any, where: str) -> Turn:
    """A message: `role`, `content` and perhaps `weight`, or `from` and `value`."""
    if not isinstance(item, dict):
        raise row.error(f"has {named(item)} {where}; expected a message{row.hint()}")
    speaker = item.get("role", item.get("from"))
    content = item.get("content", item.get("value", NOTHING))
    if not isinstance(speaker, str) or content is NOTHING:
        raise row.error(
            f"has a message {where} with the keys {names(item)}; expected role and content, "
            "or from and value"
        )
    weight = item.get("weight")
    return Turn(
        role_of(row, speaker, where),
        content_of(row, content, where),
        1.0 if weight is None else weight_of(row, weight, where),
    )


def role_of(row: Row, speaker: str, where: str) -> Role:
    """Who speaks."""
    role = row.config.roles.get(speaker) or SPEAKERS.get(speaker.lower())
    if role is None:
        raise row.error(
            f"has a speaker {speaker!r} {where}; known are {', '.join(SPEAKERS)}; say who that is: "
            f"roles: {{{speaker}: user}}, or assistant, or system"
        )
    return role  # type: ignore[return-value]  # check_mapping has seen to it


def content_of(row: Row, content: Any, where: str) -> str:
    """A message's text, which may come in parts."""
    if not isinstance(content, list):
        return row.text_of(content, where)
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or "text" not in part:
            shown = part.get("type") if isinstance(part, dict) else named(part)
            raise row.error(f"has a part {shown!r} {where}; only parts of type text can be read")
    return "".join(row.text_of(part["text"], where) for part in content)


def weight_of(row: Row, value: Any, where: str) -> float:
    """A turn's weight in the loss."""
    weight = row.number_of(value, f"as weight {where}")
    if weight < 0:
        raise row.error(f"has the weight {weight} {where}; it is 0, 1 or another share of the loss")
    return weight
