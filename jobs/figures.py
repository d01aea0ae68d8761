"""Counts and sizes in words, for the plan and for the end of a run."""

from llm.metrics import quantity


def counted(number: int, noun: str) -> str:
    """1 step, 2 batches, 3 passes"""
    ending = "" if number == 1 else "es" if noun.endswith(("ch", "ss")) else "s"
    return f"{number:,} {noun}{ending}"


def percent(share: float) -> str:
    """0.005 is 0.5%."""
    return f"{100 * share:.3g}%"


def size_of(count: float) -> str:
    """A size in three digits: 12 B, 1.3 GB."""
    text = quantity(count).replace("B", "G")  # a billion bytes is a gigabyte
    number, unit = (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
    return f"{number} {unit}B"
