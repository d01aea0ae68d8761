"""Whether a training that fell is the one that did not: every step, the weights, the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.rehearse_trial import Trial
from llm.errors import ArtifactError
from llm.files import sha256
from llm.metrics import Event
from llm.step_log import NAME

FIGURES = ("loss", "reward", "kl", "coefficient")
"""What is compared of a step, as far as its kind of training has it."""

TOLERANCE = 1e-4
"""Nats, where another number of workers took some of the steps: sums are rounded otherwise."""


@dataclass(frozen=True)
class Comparison:
    """What differs first; None: nothing."""

    steps: str | None
    weights: str | None
    ledger: str | None

    @property
    def difference(self) -> str | None:
        """Any of them."""
        return self.steps or self.ledger or self.weights


def compare(fallen: Trial, whole: Trial, text: bool) -> Comparison:
    """A training against the one that nothing befell; `text`: it is one on a stream of text."""
    resized = worlds(fallen) != worlds(whole)
    return Comparison(
        steps=steps_differ(steps_of(fallen), steps_of(whole), TOLERANCE if resized else 0.0),
        weights=None if resized else weights_differ(fallen.made, whole.made),
        ledger=ledger_differs(fallen.made, whole.made, text),
    )


def worlds(trial: Trial) -> set[int]:
    """Numbers of workers that took part."""
    return {event["workers"] for event in trial.events if event["event"] == "begin"}


def steps_of(trial: Trial) -> dict[int, Event]:
    """The log's step events."""
    return {event["step"]: event for event in trial.logged if event["event"] == "step"}


def steps_differ(
    fallen: Mapping[int, Event], whole: Mapping[int, Event], tolerance: float
) -> str | None:
    """Every step stands in both logs, with the same figures."""
    for step in sorted(fallen.keys() | whole.keys()):
        if step not in fallen or step not in whole:
            return f"step {step} is in one log only"
        for name in FIGURES:
            is_now, was = fallen[step].get(name, 0.0), whole[step].get(name, 0.0)
            if abs(is_now - was) > tolerance:
                return f"step {step}: {name} {is_now} in place of {was}"
    return None


def weights_differ(fallen: Path, whole: Path) -> str | None:
    """The same weights, bit by bit."""
    names = sorted(path.name for path in whole.glob("*.safetensors"))
    changed = (name for name in names if sha256(fallen / name) != sha256(whole / name))
    return next((f"{name} differs" for name in changed), None)


def ledger_differs(fallen: Path, whole: Path, text: bool) -> str | None:
    """The same rows in the same order; of a text, each document as often as is due."""
    from llm.audit import audit

    if not (whole / NAME).exists():  # of a PPO, whose data are its own answers
        return None
    if (fallen / NAME).read_bytes() != (whole / NAME).read_bytes():
        return f"{NAME} differs: other data, or in another order"
    try:
        if text:
            audit(fallen, lambda _: None)
    except ArtifactError as error:
        return f"audit: {error}"
    return None
