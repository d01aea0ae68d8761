"""Documents with known near duplicates, made by edits, and their similarity worked out in python.

A family is a text of random words and copies of it with more and more edits (a word replaced, put
in or taken out); passages that several families share make pairs of lower similarity, as quotations
do. `truth` compares sets of word tuples, so it has nothing in common with what it judges.
"""

import random
from itertools import combinations

Pairs = dict[tuple[int, int], float]


def shingles(text: str, n: int = 5) -> frozenset[tuple[str, ...]]:
    """The set of runs of n words."""
    words = text.split()
    return frozenset(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def similarity(one: frozenset[tuple[str, ...]], two: frozenset[tuple[str, ...]]) -> float:
    """Jaccard similarity."""
    return len(one & two) / len(one | two)


def sentence(source: random.Random, words: int) -> list[str]:
    """Words of a vocabulary of 20,000 in which few are frequent, as in a language."""
    return [f"w{int(20_000 ** source.random())}" for _ in range(words)]


def edited(words: list[str], edits: int, source: random.Random) -> list[str]:
    """Words after so many edits at random places."""
    words = list(words)
    for _ in range(edits):
        place = source.randrange(len(words))
        replacement = source.choice([sentence(source, 1), [words[place], *sentence(source, 1)], []])
        words[place : place + 1] = replacement
    return words


def made_set(families: int, sweep: list[int], seed: int) -> tuple[list[str], list[int]]:
    """Texts and each one's family: a base and a copy for every number of edits in the sweep."""
    source = random.Random(seed)
    quoted = [sentence(source, 120) for _ in range(max(1, families // 20))]
    texts, family = [], []
    for number in range(families):
        base = sentence(source, source.randrange(150, 400)) + source.choice(quoted)
        for edits in (0, *sweep):
            texts.append(" ".join(edited(base, edits, source)))
            family.append(number)
    return texts, family


def truth(texts: list[str], family: list[int]) -> Pairs:
    """Similarity of all pairs of a family; others share a passage at most, about a quarter."""
    members: dict[int, list[int]] = {}
    for index, number in enumerate(family):
        members.setdefault(number, []).append(index)
    sets = [shingles(text) for text in texts]
    return {
        pair: similarity(sets[pair[0]], sets[pair[1]])
        for group in members.values()
        for pair in combinations(group, 2)
    }
