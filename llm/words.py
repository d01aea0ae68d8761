"""Words of a text as numpy arrays: where they lie, and a 64-bit hash of each.

Filters, duplicates and contamination all look at words. A python string for each of them costs
more than everything that is then done with it, so a text is taken apart as an array of characters:
one lookup gives every character's kind, borders between kinds are borders of words, and a word's
hash is a sum over its characters. It takes about 7 ns a character, whatever the language.

A word is a run of letters, marks and digits; in scripts that put no spaces between words (Chinese,
Japanese, Thai, Lao, Khmer, Burmese) every character is one. Hashes depend on nothing but the
word: neither on the process, as python's do, nor on the machine.
"""

import sys
import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np

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

HARD = 0xFFFFFFFF
"""In place of a folded character: it gives several or depends on those around it."""

BLOCK = 1 << 15
"""Characters hashed at a time, so that the arrays stay in the cache; of a longer word only the
first so many count."""

BASE = 0x9E3779B97F4A7C15
"""B of the hash: odd, hence it has an inverse."""


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
    folded = folded_codes()[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]
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
    return codes, kind_of_code()[codes]


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
    terms = character_hashes()[codes]
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


def mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's last step (Steele et al. 2014): bits that depend on all bits, one to one."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def random_numbers(count: int, salt: int) -> np.ndarray:
    """SplitMix64's stream from `salt` on: (count,) uint64."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return mix(steps + np.uint64(salt))


@cache
def character_hashes() -> np.ndarray:
    """A random number for every code point."""
    return random_numbers(sys.maxunicode + 1, salt=0)


@cache
def powers() -> tuple[np.ndarray, np.ndarray]:
    """B^i and B^-i modulo 2^64 for the places of a block: (BLOCK,) uint64 each."""
    bases = (BASE, pow(BASE, -1, 1 << 64))
    up, down = (np.cumprod(np.full(BLOCK, base, np.uint64)) for base in bases)
    return tuple(np.append(np.uint64(1), part[:-1]) for part in (up, down))  # type: ignore


@cache
def ascii_kinds() -> bytes:
    """Kinds of bytes below 128, for bytes.translate."""
    return kind_of_code()[:256].tobytes()


@cache
def folded_codes() -> np.ndarray:
    """What `fold` makes of every code point if that does not depend on others, else HARD."""
    folded = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    joining = joining_codes()
    for code in (*range(0x3400), *range(0xA000, 0xAC00), *range(0xD7A4, 0x20000)):
        text = fold(chr(code))
        joins = len(text) != 1 or not joining.isdisjoint((code, ord(text)))
        folded[code] = HARD if joins or unicodedata.combining(text) else ord(text)
    folded[0x2F800:0x2FA20] = folded[0xE0000:0xF0000] = HARD  # Han of other forms, tags
    return folded


def joining_codes() -> set[int]:
    """Characters that become one with the character before them."""
    parts = (unicodedata.decomposition(chr(code)).split() for code in range(0x20000))
    joining = {int(part[1], 16) for part in parts if len(part) == 2 and part[0][0] != "<"}
    return joining | set(range(0x1160, 0x1200))  # Hangul vowels and finals


@cache
def kind_of_code() -> np.ndarray:
    """The kind of every code point; those above the first two planes are Han or symbols."""
    kinds = np.full(sys.maxunicode + 1, SYMBOL, np.uint8)
    kinds[:0x20000] = np.fromiter(map(kind_of, map(chr, range(0x20000))), np.uint8)
    for first, last in ALONE_SCRIPTS:
        part = kinds[first : last + 1]
        part[part == LETTER] = ALONE
    kinds[0x20000:0x40000] = ALONE
    return kinds


def kind_of(character: str) -> int:
    """Kind of a character, scripts aside."""
    category = unicodedata.category(character)
    if category[0] in "LM":
        return LETTER
    if category[0] == "N":
        return DIGIT
    return SPACE if category[0] == "Z" or character.isspace() else SYMBOL
