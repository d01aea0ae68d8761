"""What a measurement of a model found."""

from dataclasses import dataclass, field
from typing import Any

from llm.intervals import Measure


@dataclass
class Found:
    """What a measurement found."""

    measures: list[Measure] = field(default_factory=list)
    """The main one first."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Figures that are no means of items, ready to be shown."""
    examples: list[dict[str, Any]] = field(default_factory=list)
    calibration: list[dict[str, float]] = field(default_factory=list)
