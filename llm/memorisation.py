"""What a model knows by heart: documents of its training that it goes on with word for word.

A model that is given the beginning of a training document and writes what follows it there has
kept that text (Carlini et al. 2023: extractable with k tokens of context). Text that is everywhere,
such as licences, is written down without having been kept from this document, so the same is asked
of documents that were held out: what counts is the difference.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher


def same_from_start(text: Sequence[int], written: Sequence[int]) -> int:
    """How many tokens are as in the text, from the first on."""
    for place, (a, b) in enumerate(zip(text, written, strict=False)):
        if a != b:
            return place
    return min(len(text), len(written))


def longest_common(written: str, text: str) -> int:
    """Characters of the longest run that stands in both."""
    matcher = SequenceMatcher(None, written, text[: len(written) * 4], autojunk=False)
    return matcher.find_longest_match().size
