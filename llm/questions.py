"""Questions with known answers, from rows: the sets that people measure models by.

    TaskConfig -> read_rows -> Row -> Question

A set is read as its authors publish it (Hugging Face's columns) or as MosaicML's evaluation files
have it, and is put to models in the words of lm-eval, so that figures can be compared. Whatever is
not as the schema expects is a DataError that names file, line, what is there and the remedy.
"""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from llm.chat import Conversation
from llm.evaluate_config import PromptsConfig, TaskConfig, Way
from llm.rankings import RANKING_OF
from llm.read_json import named
from llm.row import NOTHING, Row, follow, names
from llm.rows import read_rows, row_units

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Question(NamedTuple):
    """What a row asks."""

    prompt: str
    """What is read before any answer; empty: nothing."""
    choices: tuple[str, ...]
    """What may follow; without wrong ones all that is accepted."""
    right: int = 0
    """Number of the right choice."""
    prompts: tuple[str, ...] = ()
    """What is read before each choice, where that differs."""
    turns: Conversation = ()
    """The prompt as a conversation, if the row has one."""

    def before(self, choice: int) -> str:
        """What is read before a choice."""
        return self.prompts[choice] if self.prompts else self.prompt

    @property
    def answer(self) -> str:
        """The right choice."""
        return self.choices[self.right]


class Schema(NamedTuple):
    """How rows of a set are read, and what is usual with them."""

    read: Callable[[Row], Question | None]
    """None: a row that asks nothing."""
    way: Way
    per_byte: bool = False
    """Whether what counts is a choice's likelihood per byte."""
    delimiter: str = " "
    stop: tuple[str, ...] = ()
    extract: str = ""
    loose: bool = False
    """Whether case, articles and signs of a written answer do not count."""
    perplexity: bool = False
    """Whether answers are words, of which perplexities are told."""


def questions_in(config: TaskConfig) -> tuple[list[Question], list[Question]]:
    """Solved examples, and the questions that are measured."""
    if config.shots_from:
        shots = list(islice(read_questions(config, config.shots_from), config.shots))
        return shots, list(islice(read_questions(config, config.shards), config.limit))
    wanted = None if config.limit is None else config.shots + config.limit
    found = list(islice(read_questions(config, config.shards), wanted))
    return found[: config.shots], found[config.shots :]


def read_questions(config: TaskConfig, shards: tuple[str, ...]) -> Iterator[Question]:
    """The questions of some files, in their order."""
    read = SCHEMAS[config.schema].read
    for row in rows_of(config, shards):
        question = read(row)
        if question is not None:
            yield question


def rows_of(config: TaskConfig | PromptsConfig, shards: tuple[str, ...]) -> Iterator[Row]:
    """Rows of files that a config tells how to read."""
    from dataclasses import replace

    for unit in row_units(replace(config, shards=shards)):
        yield from read_rows(unit, config)


# -- parts of a row --------------------------------------------------------------------------------


def has(row: Row, field: str) -> bool:
    """Whether a row holds something for a field."""
    return row.get(field) is not NOTHING


def texts_at(row: Row, field: str) -> tuple[str, ...]:
    """A list of texts."""
    where = f"at {row.column(field)!r}"
    found = tuple(row.text_of(one, where) for one in row.list_at(field))
    if not found:
        raise row.error(f"has an empty list {where}; expected one text at least")
    return found


def number_at(row: Row, field: str, choices: tuple[str, ...]) -> int:
    """Which choice is right."""
    return number_of(row, row.required(field), row.column(field), choices)


def number_of(row: Row, value: Any, path: str, choices: tuple[str, ...]) -> int:
    """The choice that a number from 0, a letter from A or the very text stands for."""
    number: Any = value
    if isinstance(value, str):
        if value in choices:
            return choices.index(value)
        letter = value.strip().upper()
        number = LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS else value
        number = int(number) if isinstance(number, str) and number.isdecimal() else number
    if isinstance(number, bool) or not isinstance(number, int):
        shown = repr(value) if isinstance(value, str) else named(value)
        raise row.error(
            f"has {shown} at {path!r}; expected the right choice's number from 0 to "
            f"{len(choices) - 1}, its letter or its text"
        )
    if not 0 <= number < len(choices):
        raise row.error(
            f"has {value!r} at {path!r}, but {len(choices)} choices; expected 0 to "
            f"{len(choices) - 1}"
        )
    return number


def with_answer(text: str) -> str:
    """A question as one that is to be answered on the next line."""
    text = text.strip()
    return text if text.endswith("Answer:") else f"{text}\nAnswer:"


def asked(question: str) -> str:
    """A question in the words of lm-eval."""
    return with_answer(f"Question: {question.strip()}")


# -- schemas ---------------------------------------------------------------------------------------


def choices(row: Row) -> Question:
    """A query, choices and the right one's number."""
    found = texts_at(row, "choices")
    return Question(row.text("query"), found, number_at(row, "gold", found))


def hellaswag(row: Row) -> Question:
    """What happens next in a film, or in a text from WikiHow."""
    if has(row, "query"):
        return choices(row)
    if has(row, "ctx_a"):
        context = f"{row.text('ctx_a')} {row.text('ctx_b').capitalize()}"
    else:
        context = row.text("ctx")
    label = f"{row.text('activity_label')}: " if has(row, "activity_label") else ""
    found = tuple(map(unmarked, texts_at(row, "endings")))
    return Question(unmarked(label + context), found, number_at(row, "label", found))


def unmarked(text: str) -> str:
    """A text without WikiHow's marks in brackets, as lm-eval has it."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def arc(row: Row) -> Question:
    """Questions from exams in natural sciences."""
    if has(row, "query"):
        found = choices(row)
        return found._replace(prompt=with_answer(found.prompt))
    held = row.required("choices")
    listed = [follow(held, key) for key in ("text", "label")]
    if not all(isinstance(one, list) for one in listed) or len(listed[0]) != len(listed[1]):
        raise row.error(
            f"has {named(held)} at {row.column('choices')!r}; expected an object with lists text "
            "and label of one length"
        )
    texts = tuple(row.text_of(one, "at choices.text") for one in listed[0])
    labels = tuple(row.text_of(one, "at choices.label") for one in listed[1])
    right = number_at(row, "answerKey", labels)
    return Question(asked(row.text("question")), texts, right)


def piqa(row: Row) -> Question:
    """How something is done."""
    if has(row, "query"):
        found = choices(row)
        return found._replace(prompt=with_answer(found.prompt))
    texts = (row.text("sol1"), row.text("sol2"))
    return Question(asked(row.text("goal")), texts, number_at(row, "label", texts))


def winogrande(row: Row) -> Question:
    """Who is meant: the rest of a sentence behind each of two beginnings."""
    if has(row, "context_options"):
        beginnings = texts_at(row, "context_options")
        rest = (row.text("continuation"),) * len(beginnings)
        return Question("", rest, number_at(row, "gold", beginnings), beginnings)
    before, gap, after = row.text("sentence").partition("_")
    if not gap:
        raise row.error(f"has no _ at {row.column('sentence')!r}; expected a gap for an option")
    options = (row.text("option1"), row.text("option2"))
    answer = row.text_of(row.required("answer"), f"at {row.column('answer')!r}")
    if answer not in ("1", "2"):
        raise row.error(f"has {answer!r} at {row.column('answer')!r}; expected 1 or 2")
    beginnings = tuple(before + option for option in options)
    return Question("", (after.strip(),) * 2, int(answer) - 1, beginnings)


def blimp(row: Row) -> Question:
    """A sentence and one that is no English."""
    return Question("", (row.text("sentence_good"), row.text("sentence_bad")))


def mmlu(row: Row) -> Question:
    """An exam with lettered answers, of which the letter is asked for."""
    return exam(row, "Answer:")


def cmmlu(row: Row) -> Question:
    """The same in Chinese."""
    return exam(row, "答案：")


def exam(row: Row, ask: str) -> Question:
    """A question, its answers with letters before them, and what asks for one."""
    if has(row, "query"):
        found = choices(row)
        return found._replace(prompt=f"{found.prompt.strip()}\n{ask}")
    if has(row, "choices"):
        texts = texts_at(row, "choices")
    else:
        texts = tuple(row.text(letter) for letter in "ABCD")
    letters = tuple(LETTERS[: len(texts)])
    lines = "".join(f"\n{letter}. {text}" for letter, text in zip(letters, texts, strict=True))
    prompt = f"{row.text('question').strip()}{lines}\n{ask}"
    return Question(prompt, letters, number_at(row, "answer", letters))


def cloze(row: Row) -> Question:
    """A text and what follows it."""
    return Question(row.text("context"), (row.text("continuation"),))


def lambada(row: Row) -> Question:
    """A passage and its last word."""
    if has(row, "context"):
        return cloze(row)
    text = row.text("text").rstrip()
    before, space, word = text.rpartition(" ")
    if not space:
        raise row.error(f"has one word at {row.column('text')!r}; expected a text with spaces")
    return Question(before, (word,))


def triviaqa(row: Row) -> Question:
    """A question with several names for its answer."""
    prompt = row.text("context") if has(row, "context") else asked(row.text("question"))
    answer = row.required("answer")
    if isinstance(answer, dict):
        listed = answer.get("aliases") or []
        accepted = [answer.get("value"), *(listed if isinstance(listed, list) else [])]
    else:
        accepted = [answer, *(row.list_at("aliases") if has(row, "aliases") else [])]
    texts = (row.text_of(one, f"at {row.column('answer')!r}") for one in accepted)
    return Question(prompt, tuple(dict.fromkeys(text for text in texts if text)))


def gsm8k(row: Row) -> Question:
    """A sum in words; the answer ends in #### and the number."""
    return Question(asked(row.text("question")), (row.text("answer"),))


def question_answer(row: Row) -> Question:
    """A question and its answer."""
    return Question(row.text("question"), (row.text("answer"),))


def compared(row: Row) -> Question | None:
    """A better and a worse answer; nothing where nobody compared answers to one prompt."""
    ranking = RANKING_OF[row.config.schema](row)
    if ranking is None:
        return None
    text = "\n\n".join(turn.text for turn in ranking.prompt)
    return Question(text, ranking.answers, turns=ranking.prompt)


def template(row: Row) -> Question:
    """What the config's templates make of a row."""
    config = row.config
    assert isinstance(config, TaskConfig)
    prompt = filled(row, config.prompt)
    if not config.choices:
        return Question(prompt, (filled(row, config.answer),))
    if len(config.choices) == 1 and "{" not in config.choices[0]:
        path = config.choices[0]
        held = at(row, path)
        if not isinstance(held, list) or not held:
            raise row.error(f"has {named(held)} at {path!r}; expected a list of choices")
        texts = tuple(row.text_of(one, f"at {path!r}") for one in held)
    else:
        texts = tuple(filled(row, one) for one in config.choices)
    return Question(prompt, texts, number_of(row, at(row, config.answer), config.answer, texts))


def filled(row: Row, pattern: str) -> str:
    """A template with what the row holds."""
    return re.sub(r"\{([^{}]+)\}", lambda match: as_text(row, match[1]), pattern)


def as_text(row: Row, path: str) -> str:
    """A text or a number at a path."""
    value = at(row, path)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return row.text_of(value, f"at {path!r}")


def at(row: Row, path: str) -> Any:
    """What a row holds at a path."""
    value = follow(row.value, path)
    if value is NOTHING:
        raise row.error(f"has nothing at {path!r}; its keys are {names(row.columns)}")
    return value


NEXT = ("\n\n", "\nQuestion:")

SCHEMAS: dict[str, Schema] = {
    "choices": Schema(choices, "choice", per_byte=True),
    "hellaswag": Schema(hellaswag, "choice", per_byte=True),
    "arc": Schema(arc, "choice", per_byte=True),
    "piqa": Schema(piqa, "choice", per_byte=True),
    "winogrande": Schema(winogrande, "choice"),
    "blimp": Schema(blimp, "choice", delimiter=""),
    "mmlu": Schema(mmlu, "choice"),
    "cmmlu": Schema(cmmlu, "choice"),
    "cloze": Schema(cloze, "cloze", stop=("\n",), perplexity=True),
    "lambada": Schema(lambada, "cloze", stop=("\n",), perplexity=True),
    "triviaqa": Schema(triviaqa, "write", stop=("\n", ".", ","), loose=True),
    "gsm8k": Schema(gsm8k, "write", stop=("\nQuestion:",), extract=r"#### (-?[0-9.,]+)"),
    "question_answer": Schema(question_answer, "cloze", delimiter="\n", stop=NEXT),
    "pairs": Schema(compared, "choice", per_byte=True, delimiter="\n"),
    "transcripts": Schema(compared, "choice", per_byte=True, delimiter="\n"),
    "template": Schema(template, "choice", per_byte=True, stop=NEXT),
}
"""By name; the words are those of lm-eval's tasks, where it has one."""


def way_of(config: TaskConfig) -> Way:
    """How a task is measured."""
    if config.measure is not None:
        return config.measure
    if config.schema == "template" and not config.choices:
        return "cloze"
    return SCHEMAS[config.schema].way


def delimiter_of(config: TaskConfig) -> str:
    """What stands between question and answer."""
    return SCHEMAS[config.schema].delimiter if config.delimiter is None else config.delimiter


# -- prompts ---------------------------------------------------------------------------------------


def prompts_in(config: PromptsConfig) -> list[Conversation]:
    """Prompts as conversations of one turn of the user, perhaps behind a system prompt."""
    return [prompt_of(row) for row in islice(rows_of(config, config.shards), config.limit)]


def prompt_of(row: Row) -> Conversation:
    """What a row asks: the first that there is of the fields of the schema."""
    from llm.chat import Turn
    from llm.conversations import with_system

    for field in ("prompt", "question", "instruction", "query"):
        if has(row, field):
            return with_system(row, (Turn("user", row.text(field)),))
    turns = texts_at(row, "turns") if has(row, "turns") else (row.text("prompt"),)
    return with_system(row, (Turn("user", turns[0]),))
