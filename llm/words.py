"""Words of a text as numpy arrays: where they lie, and a 64-bit hash of each.

Filters, duplicates and contamination all look at words. A python string for each of them costs
more than everything that is then done with it, so a text is taken apart as an array of characters:
one lookup gives every character's kind, borders between kinds are borders of words, and a word's
hash is a sum over its characters. It takes about 7 ns a character, whatever the language. What
Unicode says of a character is looked up once for its block of 256, when a text first has one of
them: doing so for all blocks would cost every process 0.2 s, and most texts need four.

A word is a run of letters, marks and digits; in scripts that put no spaces between words (Chinese,
Japanese, Thai, Lao, Khmer, Burmese) every character is one. Hashes depend on nothing but the
word: neither on the process, as python's do, nor on the machine.
"""

import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from llm.splitmix import STEP, mix, random_numbers

SPACE, SYMBOL, LETTER, DIGIT, ALONE = range(5)
"""Kinds of characters; ALONE: a letter that is a word of its own."""

ALONE_SCRIPTS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
)

CODES = sys.maxunicode + 1

HARD = CODES
"""In place of a folded character: it gives several or depends on those around it."""

BLOCK = 1 << 15
"""Characters hashed at a time, so that the arrays stay in the cache; of a longer word only the
first so many count."""


@dataclass(frozen=True)
class Words:
    """Words in the order of the text: character ranges and hashes, (W,) each."""

    starts: np.ndarray
    ends: np.ndarray
    hashes: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)


def normal(text: str) -> str:
    """A text without differences of case and Unicode form (NFKC)."""
    if text.isascii():
        return text.lower()
    text = text.replace("…", "...")  # the one frequent character of English text that is HARD
    folded = folded_codes()(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32))
    if folded.max() != HARD:
        return folded.tobytes().decode("utf-32-le", "surrogatepass")
    return fold(text)


def fold(text: str) -> str:
    """`normal`, by the book."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def find_words(text: str) -> Words:
    """The words of a text; for those of equal texts in other forms, give it `normal` ones."""
    codes, kinds = characters(text)
    runs = (kinds == LETTER) | (kinds == DIGIT)
    starts, ends = spans(kinds > SYMBOL, runs[1:] & runs[:-1])
    return Words(starts, ends, hash_spans(codes, starts, ends))


def characters(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Code points and kinds of a text's characters, (C,) each."""
    if text.isascii():
        data = text.encode()
        return np.frombuffer(data, np.uint8), np.frombuffer(data.translate(ascii_kinds()), np.uint8)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return codes, kinds_of_codes()(codes)


def spans(inside: np.ndarray, joined: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of runs of characters inside (C,), joined to the one before (C - 1,)."""
    begins, finishes = inside.copy(), inside.copy()
    begins[1:] &= ~joined
    finishes[:-1] &= ~joined
    return np.flatnonzero(begins), np.flatnonzero(finishes) + 1


def hash_spans(codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Hashes of character ranges in rising order, none of them empty: (W,) uint64.

    That of a word c0 c1 ... is h(c0) + h(c1) B + h(c2) B^2 ... modulo 2^64, taken as the difference
    of two running sums over the whole text, divided by B^start.
    """
    hashes = np.empty(len(starts), np.uint64)
    first = 0
    while first < len(starts):
        base = starts[first]
        last = max(first + 1, int(np.searchsorted(ends, base + BLOCK, side="right")))
        begin, end = starts[first:last] - base, np.minimum(ends[first:last] - base, BLOCK)
        sums = running_sums(codes[base : base + end[-1]])
        hashes[first:last] = (sums[end] - sums[begin]) * powers()[1][begin]
        first = last
    return mix(hashes)


def running_sums(codes: np.ndarray) -> np.ndarray:
    """Sums of h(c_i) B^i over the characters before each place: (C + 1,) uint64."""
    sums = np.empty(len(codes) + 1, np.uint64)
    sums[0] = 0
    terms = character_hashes(0x20000 if codes.max() < 0x20000 else CODES)[codes]
    terms *= powers()[0][: len(codes)]
    np.cumsum(terms, out=sums[1:])
    return sums


def ngram_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """Hashes of all runs of n words, given the words': (W - n + 1,) uint64, none if W < n."""
    count = max(0, len(words) - n + 1)
    total = np.zeros(count, np.uint64)
    for place, factor in enumerate(random_numbers(n, salt=1) | np.uint64(1)):
        total += words[place : place + count] * factor
    return mix(total)


@cache
def character_hashes(count: int) -> np.ndarray:
    """A random number for each of the first code points."""
    return random_numbers(count, salt=0)


@cache
def powers() -> tuple[np.ndarray, np.ndarray]:
    """B^i and B^-i modulo 2^64 for the places of a block: (BLOCK,) uint64 each."""
    bases = (STEP, pow(STEP, -1, 1 << 64))  # B; odd, so it has an inverse
    up, down = (np.cumprod(np.full(BLOCK, base, np.uint64)) for base in bases)
    return tuple(np.append(np.uint64(1), part[:-1]) for part in (up, down))  # type: ignore


class Table:
    """A number for every code point, worked out for a block when it is first asked for."""

    def __init__(self, of: Callable[[int], int], kind: type[np.unsignedinteger]) -> None:
        self.of = of
        self.unknown = np.iinfo(kind).max
        self.numbers = np.full(CODES, self.unknown, kind)

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """The numbers of characters: (C,)."""
        numbers = self.numbers[codes]
        if len(numbers) and numbers.max() == self.unknown:
            for block in np.unique(codes[numbers == self.unknown] >> 8).tolist():
                here = range(block << 8, (block + 1) << 8)
                self.numbers[here.start : here.stop] = [self.of(code) for code in here]
            numbers = self.numbers[codes]
        return numbers


@cache
def ascii_kinds() -> bytes:
    """Kinds of bytes below 128, for bytes.translate."""
    return kinds_of_codes()(np.arange(256)).tobytes()


@cache
def kinds_of_codes() -> Table:
    """The kind of every code point."""
    return Table(kind_of, np.uint8)


@cache
def folded_codes() -> Table:
    """What `fold` makes of every code point if that does not depend on others, else HARD."""
    return Table(folded_code, np.uint32)


def folded_code(code: int) -> int:
    """What `fold` makes of a code point, or HARD."""
    text = fold(chr(code))
    joins = len(text) != 1 or not joining_codes().isdisjoint((code, ord(text)))
    return HARD if joins or unicodedata.combining(text) else ord(text)


@cache
def joining_codes() -> set[int]:
    """Characters that become one with the character before them."""
    parts = map(str.split, filter(None, map(unicodedata.decomposition, map(chr, range(0x20000)))))
    joining = {int(part[1], 16) for part in parts if len(part) == 2 and part[0][0] != "<"}
    return joining | set(range(0x1160, 0x1200))  # Hangul vowels and finals


def kind_of(code: int) -> int:
    """Kind of a character; those above the first two planes are Han or symbols."""
    if code >= 0x20000:
        return ALONE if code < 0x40000 else SYMBOL
    category = unicodedata.category(chr(code))
    if category[0] in "LM":
        alone = any(first <= code <= last for first, last in ALONE_SCRIPTS)
        return ALONE if alone else LETTER
    if category[0] == "N":
        return DIGIT
    return SPACE if category[0] == "Z" or chr(code).isspace() else SYMBOL
