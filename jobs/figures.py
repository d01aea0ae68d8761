"""Counts and shares in words, for the plan and for the end of a run."""


def counted(number: int, noun: str) -> str:
    """1 step, 2 batches, 3 passes, 4 epochs"""
    ending = "" if number == 1 else "es" if noun.endswith(("tch", "ss")) else "s"
    return f"{number:,} {noun}{ending}"


def percent(share: float) -> str:
    """0.005 is 0.5%."""
    return f"{100 * share:.3g}%"
