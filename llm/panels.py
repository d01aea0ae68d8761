"""What there is to see of a training: panels of curves, by the keys that its events have.

One table for pretraining, SFT, reward models, PPO and DPO: a panel is shown where a run logged
what it is about, so a new figure needs one line here and nothing else. Curves are thinned out to
the width of a screen with every peak kept, so a page of 100,000 steps is as small as one of 1,000.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from llm.metrics import Event

MOST_POINTS = 800
"""Of a curve: two for each of 400 places, twice what a phone's screen has."""

PHASES = ("rollout", "logprobs", "reward", "update")


class Curve(NamedTuple):
    """One figure of one kind of event; with `low` and `high` it has an interval."""

    event: Literal["step", "validation"]
    key: str
    name: str = "training"
    colour: str = "held"
    low: str = ""
    high: str = ""


class Panel(NamedTuple):
    """Curves that share an axis, and what they say. A level is what a curve is measured against:
    a number, or the key of the start event that holds it."""

    title: str
    note: str
    curves: tuple[Curve, ...]
    unit: Literal["", "share"] = ""
    level: float | str | None = None


class Points(NamedTuple):
    """Steps (n,) in order and a value (n,) for each; what is missing or not finite is nan."""

    steps: np.ndarray
    values: np.ndarray

    @property
    def finite(self) -> np.ndarray:
        """The values that are numbers."""
        return self.values[np.isfinite(self.values)]

    @property
    def first(self) -> float | None:
        """The oldest number."""
        return float(self.finite[0]) if len(self.finite) else None

    @property
    def last(self) -> float | None:
        """The newest number."""
        return float(self.finite[-1]) if len(self.finite) else None


def trained(key: str, name: str = "training", colour: str = "held") -> Curve:
    """A figure of training steps."""
    return Curve("step", key, name, colour)


def held_out(key: str, low: str = "", high: str = "") -> Curve:
    """A figure of held-out data."""
    return Curve("validation", key, "held out", "lost", low, high)


SECTIONS: Mapping[str, tuple[Panel, ...]] = {
    "How good it is": (
        Panel(
            "Reward",
            "Mean of the normalised reward; the score is what is left of it after the price of "
            "divergence.",
            (trained("reward"), trained("score", "score", "kept"), held_out("reward")),
        ),
        Panel(
            "Loss",
            "What training lowers, in nats; held out means on what it never saw.",
            (trained("loss"), held_out("loss")),
        ),
        Panel(
            "Bits per byte",
            "How many bits a byte of held-out text costs; comparable across tokenizers.",
            (held_out("bpb"),),
        ),
        Panel(
            "Perplexity",
            "Between how many tokens, all alike, the model might as well choose.",
            (held_out("perplexity"),),
        ),
        Panel(
            "Accuracy",
            "Share of held-out pairs in which the better answer is seen as such, with its 95% "
            "interval; a coin has a half.",
            (
                held_out("accuracy", "low", "high"),
                Curve("validation", "length_baseline", "the longer answer", "soft"),
            ),
            unit="share",
            level=0.5,
        ),
        Panel(
            "Margin",
            "How much more, in nats, the model has turned towards the better answer than towards "
            "the worse.",
            (held_out("margin"),),
            level=0.0,
        ),
        Panel(
            "Calibration",
            "Mean gap between how sure the model is of a comparison and how often it is right.",
            (held_out("calibration"),),
            unit="share",
        ),
        Panel(
            "Reward and length",
            "Rank correlation of an answer's reward and its length; at 1 only length counts.",
            (held_out("length_correlation"),),
            level=0.0,
        ),
        Panel(
            "Preference",
            "Share of held-out comparisons that the policy sides with; if it falls while the "
            "reward rises, the reward is being gamed.",
            (held_out("preference"),),
            unit="share",
            level=0.5,
        ),
    ),
    "What became of the policy": (
        Panel(
            "Divergence",
            "KL from the reference in nats per answer, and the target that the coefficient steers "
            "for.",
            (trained("kl"), held_out("kl")),
            level="kl_target",
        ),
        Panel("KL coefficient", "Reward lost per nat of divergence.", (trained("coefficient"),)),
        Panel(
            "Entropy",
            "Nats per token that are still open; near 0 the policy always says the same.",
            (trained("entropy"),),
        ),
        Panel("Length", "Tokens per answer.", (trained("length"), held_out("length"))),
        Panel(
            "Ended and alike",
            "Share of answers that end by themselves, and share of the most frequent answer.",
            (trained("ended", "ended"), trained("same", "the same", "lost")),
            unit="share",
        ),
    ),
    "How it learns": (
        Panel(
            "Explained variance",
            "Share of the returns' variance that the critic foresees; 0 is no better than a guess.",
            (trained("explained_variance"),),
            level=0.0,
        ),
        Panel(
            "Clip fraction",
            "Share of tokens whose probability an update wanted to move too far.",
            (trained("clip_fraction"),),
            unit="share",
        ),
        Panel(
            "Size of updates",
            "KL in nats per token between the policy that wrote and the one that has learned.",
            (trained("approx_kl"),),
        ),
        Panel("Policy loss", "The clipped objective.", (trained("policy_loss"),)),
        Panel("Value loss", "The critic's squared error, halved.", (trained("value_loss"),)),
        Panel(
            "Mismatch",
            "Mean difference in nats between the log-probabilities of rollout and trainer.",
            (trained("mismatch"),),
        ),
        Panel("Learning rate", "As scheduled.", (trained("lr"),)),
        Panel("Gradient norm", "Before clipping.", (trained("grad_norm"),)),
        Panel(
            "Z-loss",
            "Price of softmax sums that are not 1, minimised with the loss and no part of it.",
            (trained("z_loss"),),
        ),
    ),
    "How fast it is": (
        Panel("Tokens per second", "Over all workers.", (trained("tokens_per_second"),)),
        Panel(
            "Use of the machine",
            "Share of the peak speed that reaches the model (MFU), and of time spent waiting for "
            "data.",
            (trained("mfu", "MFU"), trained("data_wait", "data wait", "lost")),
            unit="share",
        ),
    ),
}


def points(log: Iterable[Event], curve: Curve) -> Points:
    """A figure over the steps; a step that stands twice counts as it was last."""
    events = (event for event in log if event["event"] == curve.event and curve.key in event)
    values = {event["step"]: number(event[curve.key]) for event in events}
    steps = sorted(values)
    return Points(np.array(steps, np.float64), np.array([values[s] for s in steps], np.float64))


def number(value: object) -> float:
    """A figure as a finite number, or nan."""
    finite = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if finite else math.nan  # type: ignore[arg-type]


def curves_of(panel: Panel, log: Sequence[Event]) -> list[tuple[Curve, Points]]:
    """The panel's curves of which the run has at least one number."""
    found = ((curve, points(log, curve)) for curve in panel.curves)
    return [(curve, at) for curve, at in found if at.last is not None]


def level_of(panel: Panel, start: Event) -> float | None:
    """What a panel's curves are measured against, if this run has it."""
    level = start.get(panel.level) if isinstance(panel.level, str) else panel.level
    return None if level is None else number(level)


def thin(at: Points, most: int = MOST_POINTS) -> Points:
    """At most `most` points (even): of each of most/2 places the lowest and the highest."""
    if len(at.steps) <= most:
        return at
    kept: list[int] = []
    for place in np.array_split(np.arange(len(at.steps)), most // 2):
        values = at.values[place]
        if np.isfinite(values).any():
            kept += sorted({place[np.nanargmin(values)], place[np.nanargmax(values)]})
        else:
            kept.append(place[0])
    return Points(at.steps[kept], at.values[kept])


def smooth(at: Points, places: int = 20) -> Points:
    """The mean over a window of a 20th of the run around each point, without what is missing."""
    half = len(at.steps) // (2 * places)
    known = np.isfinite(at.values)
    sums = np.concatenate(([0.0], np.cumsum(np.where(known, at.values, 0.0))))
    counts = np.concatenate(([0], np.cumsum(known)))
    index = np.arange(len(at.steps))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(index))
    with np.errstate(invalid="ignore"):
        return Points(at.steps, (sums[high] - sums[low]) / (counts[high] - counts[low]))


def phase_seconds(log: Iterable[Event], most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Steps (n,) and mean seconds (phases, n) of each phase, over at most `most` places."""
    seconds = {e["step"]: e["phases"] for e in log if e["event"] == "step" and "phases" in e}
    steps = np.array(sorted(seconds), np.float64)
    table = np.array(
        [[number(seconds[step].get(phase, 0.0)) for step in steps] for phase in PHASES]
    )  # (phases, n)
    table = np.nan_to_num(table)
    if len(steps) <= most:
        return steps, table
    places = np.array_split(np.arange(len(steps)), most)
    means = [table[:, place].mean(axis=1) for place in places]
    return np.array([steps[place].mean() for place in places]), np.stack(means, axis=1)
