"""What is kept out of questions and answers: listed words, and what a function of yours refuses.

Models repeat what they read, so an answer is looked at while it is written: what could still become
a listed word is held back until it is one or is not. A word list keeps accidents out, not people
who spell around it; for those there is the hook, which may ask a classifier:

    filters: {words: words.txt, hook: "judge.py:is_harmful"}

The hook gets a question, or an answer up to the end of a sentence, and returns whether it is
refused. Until then the sentence is held back. It is called in threads, several at a time.
If it fails, the text is refused: nothing passes that was not judged.
"""

import asyncio
import inspect
import logging
import re
from collections.abc import Callable
from typing import Any, TypeVar

from deploy.config import TextFilterConfig
from deploy.phrases import Finder, Phrases, spaced
from llm.errors import SpecError
from llm.filesystem import open_file
from llm.python_file import load_file
from llm.word_list import WordList

logger = logging.getLogger("humpty.filters")

Hook = Callable[[str], bool]

T = TypeVar("T")

SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s)|[。！？\n]")

LONGEST_SENTENCE = 500
"""Characters after which a hook judges what has no end."""


class Filters:
    """What a config says is kept out."""

    def __init__(self, config: TextFilterConfig, entries: list[str], hook: Hook | None) -> None:
        self.input, self.output = "input" in config.apply, "output" in config.apply
        self.words = WordList(entries) if entries else None
        self.phrases = Phrases(entries) if entries else None
        self.hook = hook

    @classmethod
    def load(cls, config: TextFilterConfig) -> "Filters | None":
        """Read the word list and find the hook; None if there is neither."""
        if config.words is None and config.hook is None:
            return None
        return cls(
            config,
            read_entries(config.words) if config.words is not None else [],
            load_hook(config.hook) if config.hook is not None else None,
        )

    def refuses(self, text: str) -> bool:
        """Whether a question must not be asked."""
        if not self.input:
            return False
        listed = self.words is not None and self.words.count(text) > 0
        return listed or (self.hook is not None and self.hook(text))

    async def aside(self, look: "Callable[[Filters], T]") -> T:
        """What `look` finds; where it asks a hook, in a thread, so that no other answer waits."""
        return look(self) if self.hook is None else await asyncio.to_thread(look, self)

    def stream(self) -> "OutputFilter":
        """Watches one answer."""
        if not self.output:
            return OutputFilter(None, None)
        return OutputFilter(
            Finder(self.phrases) if self.phrases else None,
            Sentences(self.hook) if self.hook else None,
        )


class OutputFilter:
    """One answer while it is written."""

    def __init__(self, finder: Finder | None, sentences: "Sentences | None") -> None:
        self.finder = finder
        self.sentences = sentences
        self.blocked = False
        """Whether something was found; nothing is given back from then on."""

    def feed(self, text: str) -> str:
        """Take a piece, and give back what may be shown by now, maybe of earlier pieces."""
        return self.look(text, last=False)

    def finish(self) -> str:
        """The answer is complete: give back the rest that may be shown."""
        return self.look("", last=True)

    def look(self, text: str, last: bool) -> str:
        """Words first, then the hook, which judges what was found to be free of them."""
        if self.blocked:
            return ""
        if self.finder:
            text = self.finder.feed(text) + (self.finder.finish() if last else "")
            self.blocked = self.finder.found is not None
        if self.sentences:
            text = self.sentences.feed(text, last=last or self.blocked)
            self.blocked = self.blocked or self.sentences.refused
        return text


class Sentences:
    """An answer that a hook judges, each time together with what was said before."""

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self.text = ""
        self.given = 0
        """Characters that were judged and given back."""
        self.refused = False

    def feed(self, text: str, last: bool) -> str:
        """Take a piece, and give back the sentences that it completes."""
        self.text += text
        end = len(self.text) if last else self.judged_end()
        if end <= self.given:
            return ""
        if self.hook(self.text[:end]):
            self.refused = True
            return ""
        start, self.given = self.given, end
        return self.text[start:end]

    def judged_end(self) -> int:
        """The end of the last sentence that is complete, or of a text without sentences."""
        if len(self.text) - self.given >= LONGEST_SENTENCE:
            return len(self.text)
        ends = [match.end() for match in SENTENCE_END.finditer(self.text, self.given)]
        return ends[-1] if ends else self.given


def read_entries(path: str) -> list[str]:
    """The words and phrases of a UTF-8 file, one a line; # begins a comment line."""
    try:
        with open_file(path) as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SpecError(
            f"filters.words: {path} is not UTF-8 ({error.reason} at byte {error.start}); "
            "convert it: iconv"
        ) from error
    except OSError as error:
        raise SpecError(
            f"filters.words: {path} cannot be read: {error}; name a file with a word or phrase a "
            "line"
        ) from error
    entries = []
    for number, line in enumerate(lines, 1):
        if (entry := line.strip()) and not entry.startswith("#"):
            if not spaced(entry).strip():
                raise SpecError(
                    f"filters.words: {path}, line {number}: {entry!r} has neither letters nor "
                    "digits, and only they are looked at; remove the line"
                )
            entries.append(entry)
    if not entries:
        raise SpecError(
            f"filters.words: {path} has no word in it; write a word or phrase a line, or leave "
            "`words` out"
        )
    return entries


def load_hook(name: str) -> Hook:
    """The function that FILE.py:NAME names."""
    place, _, function = name.rpartition(":")
    if not place.endswith(".py") or not function:
        raise SpecError(f"filters.hook: {name!r} names no function; write FILE.py:NAME")
    found = getattr(module_of(place), function, None)
    if not callable(found):
        raise SpecError(
            f"filters.hook: {place} has no function {function}; define {function}(text) there"
        )
    try:
        inspect.signature(found).bind("")
    except (TypeError, ValueError) as error:
        raise SpecError(f"filters.hook: {name} is called with one text: {error}") from error
    return closed(found, name)


def module_of(place: str) -> Any:
    """A module by its file; whatever fails in it is the user's to mend."""
    try:
        return load_file(place)
    except Exception as error:
        raise SpecError(
            f"filters.hook: {place} cannot be loaded ({type(error).__name__}: {error}); name a "
            "Python file that exists"
        ) from error


def closed(hook: Callable[[str], object], name: str) -> Hook:
    """The same function, which refuses where it fails."""

    def judge(text: str) -> bool:
        try:
            return bool(hook(text))
        except Exception as error:
            # Only the kind of error: its message may hold the text, which no log may.
            logger.error("filters.hook: %s failed with %s: refused", name, type(error).__name__)
            return True

    return judge
