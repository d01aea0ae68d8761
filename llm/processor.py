"""What arithmetic this machine's processor has instructions for, without asking torch."""

from functools import cache
from pathlib import Path


@cache
def instructions() -> frozenset[str]:
    """The flags of the first core, as Linux names them; none where nobody tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return frozenset(next((line.split() for line in lines if line.startswith("flags")), ()))


def multiplies_bf16(flags: frozenset[str]) -> bool:
    """As llm/world.py asks torch."""
    return bool({"avx512_bf16", "amx_bf16"} & flags)


def has_tiles(flags: frozenset[str]) -> bool:
    """AMX."""
    return "amx_tile" in flags
