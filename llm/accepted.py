"""Whether what a model wrote is an accepted answer."""

import re
import string

ARTICLES = re.compile(r"\b(a|an|the)\b")


def extracted(text: str, pattern: str) -> str:
    """The first group of a pattern's first match; the whole text where there is none."""
    match = re.search(pattern, text) if pattern else None
    return match[1] if match and match.groups() and match[1] is not None else text


def same(answer: str, accepted: str, loose: bool) -> bool:
    """Whether two answers are one: numbers by their value, however they are written."""
    numbers = [number(one) for one in (answer, accepted)]
    if None not in numbers:
        return numbers[0] == numbers[1]
    return normal(answer, loose) == normal(accepted, loose)


def number(text: str) -> float | None:
    """`$1,234.50` as a number."""
    plain = text.strip().strip("$€£¥").replace(",", "").rstrip(".")
    return float(plain) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", plain) else None


def normal(text: str, loose: bool) -> str:
    """A text without white space around it; loose: no case, signs or articles either."""
    if not loose:
        return text.strip()
    plain = text.casefold().translate(str.maketrans("", "", string.punctuation))
    return " ".join(ARTICLES.sub(" ", plain).split())
