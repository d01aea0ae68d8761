"""A prompt for a model, taken from the text that it learns."""

import re
from collections.abc import Iterable

WIDE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]{4,}")


def first_words(sample: Iterable[str]) -> str:
    """How a sentence of the text begins: three words, or four characters of Chinese."""
    for line in lines_of(sample):
        if wide := WIDE.search(line):
            return wide[0][:4]
        words = line.split()
        if len(words) >= 6 and all(word.strip(".,;:'\"").isalpha() for word in words[:3]):
            return " ".join(words[:3])
    return "The"


def with_a_gap(sample: Iterable[str]) -> str:
    """A sentence of the text with one of its words hidden."""
    for line in lines_of(sample):
        if (wide := WIDE.search(line)) and len(wide[0]) >= 6:
            found = wide[0][:12]
            return f"{found[:3]}[MASK]{found[4:]}"
        words = line.split()[:10]
        if len(words) >= 6 and all(word.strip(".,;:'\"").isalpha() for word in words):
            return " ".join((*words[:3], "[MASK]", *words[4:]))
    return "The [MASK] is here."


def lines_of(sample: Iterable[str]) -> Iterable[str]:
    """Lines that can stand in one line."""
    return (line.strip() for text in sample for line in text.splitlines() if line.isprintable())
