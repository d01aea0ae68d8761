"""The run's log: one JSON object a line in metrics.jsonl, and the same object to whoever watches.

Events: start, step, validation, statistics, sample, checkpoint, end, and what is out of the
ordinary: guard, fault, damaged, again, saved_early, stopped. A run that goes on from step N first
drops what an earlier attempt logged after N, so every step stands in the file once.
"""

import json
import math
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from llm.files import Appender, write_atomic

Event = dict[str, Any]
Emit = Callable[[Event], None]


class RunLog:
    """Appends events to a file and hands them on; with no path it does neither (other ranks)."""

    def __init__(self, path: Path | None, emit: Emit) -> None:
        self.path = path
        self.emit = emit
        self.file: Appender | None = None

    def rewind(self, step: int, again: Container[str] = ()) -> None:
        """Drop what comes `again`: events of steps after `step`, and of it those that are named.

        Also a last line that was cut off by a fall.
        """
        if self.path is None:
            return
        events = read_log(self.path) if self.path.exists() else []
        reached = [event for event in events if event["step"] <= step]
        kept = [one for one in reached if one["step"] < step or one["event"] not in again]
        write_atomic(self.path, "".join(json.dumps(event) + "\n" for event in kept))
        self.file = Appender(self.path)

    def __call__(self, event: str, step: int, **values: Any) -> None:
        """Log one event of one step."""
        if self.path is None:
            return
        record = {"event": event, "step": step, **values}
        if self.file is None:
            self.file = Appender(self.path)
        self.file.add(json.dumps(record) + "\n")
        self.emit(record)


def read_log(path: Path) -> list[Event]:
    """The whole lines of a metrics.jsonl."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def quantity(value: float) -> str:
    """A number in three digits: 0.25, 950, 12.3k, 13.8M, 1.25B."""
    if abs(value) < 999.5:
        return f"{value:.3g}"
    power = min(int(math.log10(abs(value) * 1.0005) // 3), 6)  # 999,900 is 1M, not 1000k
    return f"{value / 1000**power:.3g}{' kMBTPE'[power]}"


def size_of(bytes: float) -> str:
    """A size in three digits: 12 B, 45.6 kB, 1.3 GB."""
    text = quantity(bytes).replace("B", "G")  # a billion bytes is a gigabyte
    number, unit = (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
    return f"{number} {unit}B"


def duration(seconds: float) -> str:
    """A time in its two largest units: 42s, 3m 05s, 2h 10m, 3d 04h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600:02d}h"


def step_line(event: Event) -> str:
    """A step event as one line for people."""
    parts = ppo_figures(event) if "reward" in event else loss_figures(event)
    return " | ".join((f"step {event['step']}/{event['steps']}", *parts))


def loss_figures(event: Event) -> tuple[str, ...]:
    """Of a training on given data."""
    return (
        f"loss {event['loss']:.3f}",
        f"lr {event['lr']:.1e}",
        f"{quantity(event['tokens_per_second'])} tok/s",
        f"mfu {event['mfu']:.0%}",
        f"data wait {event['data_wait']:.0%}",
        f"eta {duration(event['eta'])}",
    )


def ppo_figures(event: Event) -> tuple[str, ...]:
    """Of a training on the model's own answers."""
    return (
        f"reward {event['reward']:.3f}",
        f"kl {event['kl']:.2f} at {event['coefficient']:.3g}",
        f"entropy {event['entropy']:.2f}",
        f"length {event['length']:.1f}",
        f"clipped {event['clip_fraction']:.0%}",
        f"{event['seconds']:.1f} s",
        f"eta {duration(event['eta'])}",
    )


def validation_line(event: Event) -> str:
    """A validation event as one line for people."""
    if "bpb" in event:
        return f"validation {event['bpb']:.3f} bits per byte (loss {event['loss']:.3f})"
    if "unigram" in event:
        return unigram_line(event)
    if "accuracy" in event:
        interval = f"{event['low']:.1%} to {event['high']:.1%}"
        return f"{event['accuracy']:.1%} of {event['pairs']:.0f} held-out pairs right ({interval})"
    if "reward" in event:
        sided = event.get("preference")
        with_people = f", sides with people in {sided:.1%}" if sided is not None else ""
        return f"held-out prompts: reward {event['reward']:.3f}, kl {event['kl']:.2f}{with_people}"
    if "preference" in event:  # of a PPO with so few prompts that none is held out
        return f"sides with people in {event['preference']:.1%} of held-out pairs"
    return f"validation loss {event['loss']:.3f}"


def unigram_line(event: Event) -> str:
    """Of what was hidden or encoded, beside what frequencies alone would tell."""
    loss = f"validation loss {event['loss']:.3f} (frequencies alone {event['unigram']:.3f})"
    if "filled" in event:
        return f"{loss}, {event['filled']:.1%} of hidden tokens right"
    words = f"{event['whole_words']:.1%} of words whole"
    return f"{loss}, {event['restored']:.1%} of letters given back, {words}"


def print_event(event: Event) -> None:
    """Print an event as a plain line."""
    match event["event"]:
        case "step":
            print(step_line(event), flush=True)
        case "validation":
            print(f"step {event['step']}: {validation_line(event)}", flush=True)
        case "guard":
            print(f"step {event['step']}: {event['action']}, {event['message']}", flush=True)
