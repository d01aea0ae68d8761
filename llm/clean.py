"""Puts the text of a document in order, and counts what it changed.

Steps in this order: control characters, Unicode form, lines that go, personal data, white space.
White space is last because the steps before leave some behind; a cleaned text is not changed by
cleaning it again.
"""

import re
import sys
import unicodedata
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from llm.boilerplate import is_boilerplate
from llm.corpus_config import CleanConfig
from llm.pii import hide_emails, hide_ips, hide_phones

Step = Callable[[str], tuple[str, int]]
"""From a text to the changed one and the number of changes."""

LINE_ENDS = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")

CONTROL = re.compile(
    "[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
    "\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufdd0-\ufdef\ufeff\ufff9-\ufffb"
    "\ufffe\uffff]"
)
"""Not U+200C and U+200D, which are spelling in Persian and Hindi and hold emoji together."""

BLANK_LINES = re.compile(r"\n{3,}")

URL = re.compile(r"(?:https?://|www\.)[^\s<>\"]+", re.IGNORECASE)


class Cleaned(NamedTuple):
    """A text in order, and the number of changes by the name of the step; none: no entry."""

    text: str
    changes: dict[str, int]


class Cleaner:
    """The steps that a config asks for."""

    def __init__(self, config: CleanConfig) -> None:
        steps: list[tuple[bool, str, Step]] = [
            (config.control, "control characters", remove_control),
            (config.unicode != "none", "unicode", partial(normalise, form=config.unicode.upper())),
            (config.boilerplate, "boilerplate lines", remove_boilerplate),
            (
                config.url_lines is not None,
                "url lines",
                partial(remove_url_lines, share=config.url_lines or 0.0),
            ),
            (config.emails, "emails", hide_emails),
            (config.phones, "phones", hide_phones),
            (config.ips, "ips", hide_ips),
            (config.whitespace, "white space", trim),
        ]
        self.steps = [(name, step) for wanted, name, step in steps if wanted]

    def __call__(self, text: str) -> Cleaned:
        """Take all steps."""
        changes = {}
        for name, step in self.steps:
            text, count = step(text)
            if count:
                changes[name] = count
        return Cleaned(text, changes)


def remove_control(text: str) -> tuple[str, int]:
    """One kind of line end; no control and invisible characters but tabs; counts the latter."""
    if not has_control(text):
        return text, 0
    return CONTROL.subn("", LINE_ENDS.sub("\n", text))


def has_control(text: str) -> bool:
    """Whether there is anything for `remove_control` to do: 1 ns a character, the patterns 30."""
    if text.isascii():
        data = text.encode()
        return len(data.translate(None, control_bytes())) < len(data)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return bool(control_codes()[codes].any())


@cache
def control_codes() -> np.ndarray:
    """Which code points `remove_control` changes."""
    text = "".join(map(chr, range(0x10000)))
    table = np.zeros(sys.maxunicode + 1, bool)
    table[
        [match.start() for pattern in (CONTROL, LINE_ENDS) for match in pattern.finditer(text)]
    ] = 1
    return table


@cache
def control_bytes() -> bytes:
    """Those below 128."""
    return bytes(np.flatnonzero(control_codes()[:128]).tolist())


def normalise(text: str, form: Any) -> tuple[str, int]:
    """The text in a Unicode form; counts texts."""
    if text.isascii() or unicodedata.is_normalized(form, text):
        return text, 0
    return unicodedata.normalize(form, text), 1


def remove_boilerplate(text: str) -> tuple[str, int]:
    """Without the lines that are a page's furniture."""
    return keep_lines(text, lambda line: not is_boilerplate(line))


def remove_url_lines(text: str, share: float) -> tuple[str, int]:
    """Without lines of which more than `share` of the characters other than space is URLs."""
    if "://" not in text and "www." not in text.lower():
        return text, 0
    return keep_lines(text, lambda line: share_of_urls(line) <= share)


def share_of_urls(line: str) -> float:
    """Share of a line's characters other than space that belong to URLs."""
    urls = sum(map(len, URL.findall(line)))
    return urls / len("".join(line.split())) if urls else 0.0


def keep_lines(text: str, wanted: Callable[[str], bool]) -> tuple[str, int]:
    """The wanted lines, and how many went."""
    lines = text.split("\n")
    kept = [line for line in lines if wanted(line)]
    return ("\n".join(kept), len(lines) - len(kept)) if len(kept) < len(lines) else (text, 0)


def trim(text: str) -> tuple[str, int]:
    """No space at the ends of lines and of the text, one blank line at most; counts characters."""
    trimmed = "\n".join(map(str.rstrip, text.split("\n"))).strip()
    if "\n\n\n" in trimmed:
        trimmed = BLANK_LINES.sub("\n\n", trimmed)
    return trimmed, len(text) - len(trimmed)
