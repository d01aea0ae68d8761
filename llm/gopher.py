"""Gopher's quality rules (Rae et al. 2021, section A1.1): whether a text keeps to each of them.

All are functions of a text and a bound, called like the bound's field in GopherConfig. Shares of
nothing are 0: an empty text has too few words, and no bullets.
"""

import re

from llm.corpus_config import GopherConfig
from llm.view import View

STOP_WORD = re.compile(r"\b(?:the|be|to|of|and|that|have|with)\b", re.IGNORECASE)

BULLETS = ("•", "-", "*")

ELLIPSES = ("...", "…")


def least_words(view: View, bound: float) -> bool:
    """Enough words."""
    return view.word_count >= bound


def most_words(view: View, bound: float) -> bool:
    """Not too many words."""
    return view.word_count <= bound


def least_word_length(view: View, bound: float) -> bool:
    """Words that are long enough in the mean."""
    return view.word_length >= bound


def most_word_length(view: View, bound: float) -> bool:
    """Words that are not too long in the mean."""
    return view.word_length <= bound


def symbols(view: View, bound: float) -> bool:
    """Not too many hash signs, nor ellipses."""
    hashes = view.text.count("#")
    ellipses = sum(map(view.text.count, ELLIPSES))
    return share(max(hashes, ellipses), view.word_count) <= bound


def bullet_lines(view: View, bound: float) -> bool:
    """Not too many items of lists."""
    bullets = sum(line.startswith(BULLETS) for line in view.lines)
    return share(bullets, len(view.lines)) <= bound


def ellipsis_lines(view: View, bound: float) -> bool:
    """Not too many lines that break off."""
    ellipses = sum(line.endswith(ELLIPSES) for line in view.lines)
    return share(ellipses, len(view.lines)) <= bound


def alphabetic_words(view: View, bound: float) -> bool:
    """Mostly words, not numbers and signs. Words are what stands between white space: with signs
    as words of their own, as spaCy and so datatrove cut them, a fifth of Wikipedia's articles go.
    """
    return view.alphabetic_share >= bound


def stop_words(view: View, bound: float) -> bool:
    """Words without which hardly an English text does; stops reading at the last one needed."""
    found: set[str] = set()
    matches = STOP_WORD.finditer(view.text)
    while len(found) < bound:
        match = next(matches, None)
        if match is None:
            return False
        found.add(match[0].lower())
    return True


def share(part: float, whole: float) -> float:
    """part / whole; of nothing 0, or infinite if it has a part all the same."""
    return part / whole if whole else float("inf") if part else 0.0


def broken_rule(view: View, config: GopherConfig) -> str | None:
    """The name of the first rule that a text breaks."""
    for rule in RULES:
        bound = getattr(config, rule.__name__)
        if bound is not None and not rule(view, bound):
            return rule.__name__
    return None


RULES = (
    least_words,
    most_words,
    least_word_length,
    most_word_length,
    symbols,
    bullet_lines,
    ellipsis_lines,
    alphabetic_words,
    stop_words,
)
