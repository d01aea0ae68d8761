"""Gopher's repetition rules (Rae et al. 2021, table A1): shares of a text that stood before.

Lines and paragraphs are compared without the white space around them. Shares of characters are
shares of the text's. A run of words that stood before adds its words' characters, each once however
many such runs it belongs to; the most frequent run adds its length with single spaces as often as
it occurs, if that is more than once.

An n-gram can only be repeated where the (n-1)-gram is: each length looks at what the one before
left, which in ordinary text is a half, a tenth, a thirtieth ... of the words.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from llm.corpus_config import RepetitionConfig
from llm.splitmix import STEP, mix
from llm.view import View

PARAGRAPHS = re.compile(r"\n\s*\n")

TOP = {n: f"top_{n}_gram" for n in (2, 3, 4)}

REPEATED = {n: f"repeated_{n}_grams" for n in range(5, 11)}

FACTOR = np.uint64(STEP)
"""Odd; it makes a hash of words depend on their order."""


def broken_rule(view: View, config: RepetitionConfig) -> str | None:
    """The name of the first rule that a text breaks."""
    bounds = [getattr(config, name) for name in REPEATED.values()]
    least = min((bound for bound in bounds if bound is not None), default=1.0)
    for name, share in shares(view, config):
        bound = getattr(config, name)
        if bound is not None and share > bound:
            return name
        if name in REPEATED.values() and share <= least:
            return None  # repeated longer runs are parts of repeated shorter ones
    return None


def shares(view: View, config: RepetitionConfig) -> Iterator[tuple[str, float]]:
    """Names of rules and what they look at, cheap ones first."""
    length = len(view.text) or 1
    yield from shares_of_parts("line", view.lines, length)
    paragraphs = [part.strip() for part in PARAGRAPHS.split(view.text)]
    yield from shares_of_parts("paragraph", [part for part in paragraphs if part], length)
    if any(getattr(config, name) is not None for name in (*TOP.values(), *REPEATED.values())):
        for name, characters in characters_of_runs(view):
            yield name, characters / length


def shares_of_parts(name: str, parts: Sequence[str], length: int) -> Iterator[tuple[str, float]]:
    """Share of parts that stood before, and of characters in them."""
    again = len(parts) - len(set(parts))
    yield f"{name}s", again / len(parts) if parts else 0.0
    characters = sum(map(len, parts)) - sum(map(len, set(parts))) if again else 0
    yield f"{name}_characters", characters / length


def characters_of_runs(view: View) -> Iterator[tuple[str, int]]:
    """Characters in the most frequent run of 2 to 4 words, and in repeated ones of 5 to 10."""
    lengths = view.tokens.lengths
    hashes = view.hashes
    ends = np.append(0, np.cumsum(lengths))  # of tokens, if there were no white space
    grams, places = hashes, np.arange(len(hashes))
    for n in range(2, 11):
        inside = places + n <= len(hashes)
        places = places[inside]
        grams = mix(grams[inside] * FACTOR + hashes[places + n - 1])
        grams, places, first = repeated(grams, places)
        if n in TOP:
            yield TOP[n], top_characters(first, places, ends, n)
        else:
            yield REPEATED[n], repeated_characters(places[~first], lengths, n)


def repeated(grams: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Those that occur more than once, in the order of their hashes, then places.

    Also which of them are the first of their kind.
    """
    order = np.argsort(grams, kind="stable")
    grams = grams[order]
    same = np.zeros(len(grams) + 1, bool)
    np.equal(grams[1:], grams[:-1], out=same[1:-1])
    kept = same[1:] | same[:-1]
    return grams[kept], places[order[kept]], ~same[:-1][kept]


def top_characters(first: np.ndarray, places: np.ndarray, ends: np.ndarray, n: int) -> int:
    """Characters in the most frequent of the runs, of equally frequent ones the first."""
    if not len(first):
        return 0
    groups = np.flatnonzero(first)
    counts = np.diff(groups, append=len(places))
    most = counts.max()
    place = places[groups[counts == most]].min()
    return int((ends[place + n] - ends[place] + n - 1) * most)


def repeated_characters(again: np.ndarray, lengths: np.ndarray, n: int) -> int:
    """Characters of the tokens in runs that stood before, given where these begin."""
    if not len(again):
        return 0
    covered = np.zeros(len(lengths), bool)
    for place in range(n):
        covered[again + place] = True
    return int(lengths[covered].sum())
