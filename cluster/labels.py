"""Labels of nodes, and what a spec asks of them, as Ray reads it: neither torch nor ray here.

`ray start --labels role=train,zone=a` labels a node. A selector maps labels to conditions, all of
which must hold: `train`, `!train`, `in(train, both)` or `!in(a, b)`; a node that lacks the label
meets the conditions that begin with `!` (seen in Ray 2.60).
"""

import re
from collections.abc import Mapping

WORD = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"

KEY = re.compile(rf"({WORD}/)?{WORD}")

CONDITION = re.compile(rf"!?({WORD}|in\({WORD}(, ?{WORD})*\))")


def meets(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node of these labels is one that the selector asks for."""
    return all(holds(labels.get(key), condition) for key, condition in selector.items())


def holds(value: str | None, condition: str) -> bool:
    """Whether a label's value, None if there is none, is as the condition says."""
    wanted = condition.removeprefix("!")
    if wanted.startswith("in("):
        allowed = [one.strip() for one in wanted[3:-1].split(",")]
    else:
        allowed = [wanted]
    return (value in allowed) != condition.startswith("!")


def written(selector: Mapping[str, str]) -> str:
    """`role=train, zone=!b`"""
    return ", ".join(f"{key}={condition}" for key, condition in selector.items())
