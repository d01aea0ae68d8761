"""SplitMix64 (Steele et al. 2014): random numbers that are a function of a seed, as numpy arrays.

Hashes of words, shuffled orders and MinHash's permutations rest on it, since it is the same on
every machine and in every release of numpy.
"""

import numpy as np

STEP = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio, and odd."""


def mix(values: np.ndarray) -> np.ndarray:
    """Bits that depend on all bits of a value, one to one."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def random_numbers(count: int, salt: int) -> np.ndarray:
    """The stream that begins at `salt`: (count,) uint64."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(STEP)
    return mix(steps + np.uint64(salt))
