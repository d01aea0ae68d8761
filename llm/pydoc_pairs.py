"""`pydoc://` as conversations: questions about Python's library, and answers good and bad.

Every public module, class and function is asked about in one of a few phrasings, by a hash of its
name; the answer is the first sentence of its docstring, if that is one of at most 25 words, so
that a model of 4M parameters can learn the manner in a minute: one whole sentence, then the end.
Comparisons set that answer against one of five bad ones, again by a hash: what another name of the
same kind does (wrong), the answer with everything else after it (rambling), its beginning (broken
off), its words in another order (jumbled), or a part of it over and over (stammering). The last two
are what a small model does. As many of the bad answers are longer as are shorter, the others are
about as long: length alone tells little about which is better.
Same Python, same rows in the same order; about 3 seconds.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b, sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from llm.errors import DataError
from llm.files import write_atomic
from llm.pydoc_source import all_texts, pydoc_digest

REVISION = 2
"""To be raised whenever the rows of an unchanged Python change."""

ALIASES = {
    "posixpath": "os.path",
    "genericpath": "os.path",
    "_pydecimal": "decimal",
    "_pydatetime": "datetime",
    "_pyio": "io",
    "_collections_abc": "collections.abc",
}
"""Modules that are known by another name."""

PASSED_OVER = {"ntpath", "distutils", "this", "antigravity", "__phello__"}
"""Modules that nobody asks about, or that say what another one says."""

QUESTIONS = {
    "module": (
        "What is the module {} for?",
        "What does the module {} offer?",
        "Describe the module {}.",
        "Why would I import {}?",
    ),
    "class": (
        "What is {}?",
        "What is the class {} for?",
        "Describe the class {}.",
        "What does an object of {} stand for?",
    ),
    "function": (
        "What does {} do?",
        "What is {} for?",
        "What happens when I call {}?",
        "Explain {} in one sentence.",
    ),
}

LEAST_WORDS, MOST_WORDS = 3, 25
MOST_RAMBLING = 60
"""Words of an answer that does not come to an end."""

REPEATS = 3
"""An answer that more names share says nothing about any of them."""

FULL_LINE = 60
"""A line broken off before so many characters was not full: a title, not a part of a sentence."""

END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bcf)(?<!\bvs)(?<!\betc)[.!?](?=\s|$)")
ROLE = re.compile(r":[a-z:]+:`~?([^`]+)`")
QUOTES = re.compile(r"``([^`]+)``|`([^`']+)[`']")
EMPHASIS = re.compile(r"\*{1,2}(\w+)\*{1,2}")
JUNK = re.compile(
    r">>>|[|\\{}<>@~^`_=*+]|[.-]{2}| - |://|\[[a-z]|\b(?:e\.?g|i\.?e)\.$"
    r"|\b[A-Z]{3,} .*\b[A-Z]{4,}\b"
)
"""What no plain sentence holds: code, mark-up, lists, parameters in brackets or capitals."""

PROSE = re.compile(r"(?!Internal)[A-Z][A-Za-z' -]")
GOES_ON = re.compile(
    r"(?:[^\w)'\"`*]"
    r"|\b(?:an?|and|as|at|by|for|from|if|in|is|of|on|or|than|that|the|to|with))$"
)
"""How a line ends that is not the end of a title."""


class Entry(NamedTuple):
    """A name, what kind of thing it is, its docstring's sentences: first the answer."""

    name: str
    kind: str
    sentences: tuple[str, ...]

    @property
    def question(self) -> str:
        """How this name is asked about."""
        phrasings = QUESTIONS[self.kind]
        return phrasings[chosen_by(self.name, "question") % len(phrasings)].format(self.name)

    @property
    def answer(self) -> str:
        """What should be said."""
        return self.sentences[0]


def write_pydoc_chats(folder: Path) -> list[Path]:
    """Write questions and answers, in schema question_answer."""
    rows = ({"question": e.question, "answer": e.answer} for e in pydoc_entries())
    return [write_rows(folder / "chats.jsonl", rows)]


def write_pydoc_pairs(folder: Path) -> list[Path]:
    """Write comparisons of two answers, in schema pairs."""
    entries = pydoc_entries()
    rows = (
        {"prompt": entry.question, "chosen": entry.answer, "rejected": bad}
        for entry, bad in zip(entries, bad_answers(entries), strict=True)
    )
    return [write_rows(folder / "pairs.jsonl", rows)]


def pydoc_pairs_digest() -> str:
    """Names the rows without making them: which documents, and what becomes of them."""
    return sha256(f"pydoc pairs {REVISION} {pydoc_digest()}".encode()).hexdigest()


def write_rows(path: Path, rows: Iterable[dict[str, str]]) -> Path:
    """A jsonl file."""
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def chosen_by(name: str, purpose: str) -> int:
    """A number that a name alone decides."""
    return int.from_bytes(blake2b(f"{purpose} {name}".encode(), digest_size=8).digest())


# -- what there is to ask --------------------------------------------------------------------------


def pydoc_entries() -> list[Entry]:
    """All names that can be asked about and answered in a sentence, each once."""
    entries: dict[str, Entry] = {}
    for id, heading, text in all_texts():
        name, found = public_name(id), sentences(text)
        if name and name not in entries and found and is_answer(found[0]):
            entries[name] = Entry(name, kind_of(heading), found)
    if not entries:
        raise DataError(
            f"data: pydoc://: the Python at {sys.executable} comes without the sources of its "
            "standard library; use one that has them, or give data of your own"
        )
    shared = Counter(entry.answer for entry in entries.values())
    return [entry for entry in entries.values() if shared[entry.answer] <= REPEATS]


def public_name(id: str) -> str | None:
    """The name that people use, or None for what is private, special, or a topic of help()."""
    module, dot, rest = id.partition(".")
    name = ALIASES.get(module, module) + dot + rest
    private = any(part.startswith("_") for part in name.split("."))
    return None if private or module in PASSED_OVER | {"help"} else name


def kind_of(heading: str) -> str:
    """Module, class or function."""
    word = heading.split(" ", 1)[0]
    return word if word in ("module", "class") else "function"


# -- sentences -------------------------------------------------------------------------------------


def sentences(text: str) -> tuple[str, ...]:
    """The plain sentences with which a docstring begins, up to the first thing that is none."""
    found: list[str] = []
    for paragraph in paragraphs(text):
        for sentence in split(paragraph):
            if JUNK.search(sentence) or not PROSE.match(sentence):
                return tuple(found)
            found.append(sentence)
    return tuple(found)


def paragraphs(text: str) -> Iterator[str]:
    """Runs of lines that belong together, each as one line without mark-up."""
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        words = line.strip()
        if lines and (not words or is_title(lines[-1], words)):
            yield plain(" ".join(lines))
            lines = []
        if words:
            lines.append(words)


def is_title(line: str, after: str) -> bool:
    """Whether a line ends where it does on purpose."""
    word = after.split()[0]
    fits = len(line) + len(word) < FULL_LINE
    return fits and word[0].isupper() and not GOES_ON.search(line)


def plain(text: str) -> str:
    """A text without mark-up and with single spaces."""
    text = EMPHASIS.sub(r"\1", ROLE.sub(r"\1", " ".join(text.split())))
    return QUOTES.sub(lambda match: match[1] or match[2], text)


def split(paragraph: str) -> Iterator[str]:
    """The sentences of a paragraph; each begins with a capital and ends with a mark."""
    rest = paragraph
    while rest:
        match = END.search(rest)
        end = match.end() if match else len(rest)
        sentence, rest = rest[:end].strip(), rest[end:].strip()
        whole = sentence if match else sentence.rstrip(":;,. ") + "."
        yield whole[:1].upper() + whole[1:]


def is_answer(sentence: str) -> bool:
    """Whether a sentence is short enough to be learned and long enough to say something."""
    return LEAST_WORDS <= len(sentence.split()) <= MOST_WORDS


# -- bad answers -----------------------------------------------------------------------------------


def bad_answers(entries: list[Entry]) -> Iterator[str]:
    """For each entry an answer that is worse than its own."""
    kinds = {kind: [e.answer for e in entries if e.kind == kind] for kind in QUESTIONS}
    for entry in entries:
        others = others_than(entry, kinds[entry.kind])
        fault = FAULTS[chosen_by(entry.name, "fault") % len(FAULTS)]
        yield fault(entry, others)


def others_than(entry: Entry, answers: list[str]) -> Iterator[str]:
    """Answers about other names of the same kind, without end."""
    place = chosen_by(entry.name, "others")
    stride = 7919  # a prime: neighbours are alike, since names come in order
    while True:
        place += stride
        other = answers[place % len(answers)]
        if other != entry.answer:
            yield other


def wrong(entry: Entry, others: Iterator[str]) -> str:
    """What something else does."""
    return next(others)


def rambling(entry: Entry, others: Iterator[str]) -> str:
    """The answer, and then everything that comes to mind; perhaps it is not about the question."""
    said = [entry.answer]
    rest = chain(entry.sentences[1:], others)
    length = MOST_WORDS + chosen_by(entry.name, "length") % (MOST_RAMBLING - MOST_WORDS)
    while len(" ".join(said).split()) < length:
        said.append(next(rest))
    return " ".join(" ".join(said).split()[:MOST_RAMBLING])


def broken_off(entry: Entry, others: Iterator[str]) -> str:
    """The answer up to some place in its middle."""
    words = entry.answer.split()
    return " ".join(words[: 1 + chosen_by(entry.name, "length") % (len(words) - 1)])


def jumbled(entry: Entry, others: Iterator[str]) -> str:
    """The answer's words in an order that makes no sentence."""
    words = entry.answer.rstrip(".").split()
    order = sorted(range(len(words)), key=lambda i: chosen_by(f"{entry.name} {i}", "order"))
    if order == sorted(order):
        order.reverse()
    return " ".join(words[i] for i in order) + "."


def stammering(entry: Entry, others: Iterator[str]) -> str:
    """The answer, which comes back to one place three times."""
    words = entry.answer.rstrip(".").split()
    start = chosen_by(entry.name, "place") % (len(words) - 1)
    again = words[start : start + 1 + chosen_by(entry.name, "length") % 3]
    return " ".join([*words[:start], *again * 4, *words[start + len(again) :]]) + "."


FAULTS = (wrong, rambling, broken_off, broken_off, jumbled, stammering)
"""Being broken off counts twice, so that bad answers are as often shorter as they are longer."""
