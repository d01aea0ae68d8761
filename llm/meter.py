"""How fast a training is: what its step reports add up to.

`mfu` is the share of the machine's matrix-product rate that the model's arithmetic takes; the rate
is the best measured so far, since one measurement may fall together with other work.
The first step waits until the stream has started, so it counts in no total.
"""

import math
from typing import Any

from llm.train import StepReport


class Meter:
    """Adds up reports of `processes` that spend `flops` a token."""

    def __init__(self, flops: int, processes: int) -> None:
        self.flops = flops
        self.processes = processes
        self.peak = 0.0
        self.window: list[StepReport] = []
        self.seen: list[tuple[int, float, float]] = []
        """(tokens, seconds, seconds waited) of every window that was read."""

    def measured(self, peak: float) -> None:
        """Take a measurement of the FLOP/s that one process reaches while all of them try."""
        self.peak = max(self.peak, peak)

    def add(self, report: StepReport) -> bool:
        """Take a report; whether it is the first."""
        self.window.append(report)
        return len(self.window) == 1 and not self.seen

    def read(self, steps: int) -> dict[str, Any]:
        """Figures of the steps since the last reading, of `steps` in all.

        Losses that are not finite, whose updates were left out, do not count; the newest's does.
        """
        window, self.window = self.window, []
        newest = window[-1]
        sound = [r for r in window if math.isfinite(r.loss + r.grad_norm)]
        tokens = sum(report.tokens for report in window)
        seconds = sum(report.seconds for report in window)
        waited = sum(report.waited for report in window)
        self.seen.append((tokens, seconds, waited))
        return {
            "step": newest.step,
            "steps": steps,
            "loss": sum(r.loss * r.tokens for r in sound) / sum(r.tokens for r in sound),
            "lr": newest.lr,
            "grad_norm": newest.grad_norm,
            "tokens_per_second": tokens / seconds,
            "mfu": self.flops * tokens / seconds / self.processes / self.peak,
            "data_wait": waited / seconds,
            "eta": (steps - newest.step) * seconds / len(window),
        }

    def totals(self) -> dict[str, float]:
        """Rates over all steps but the first; nothing if there was no other."""
        if len(self.seen) < 2:
            return {}
        tokens, seconds, waited = (sum(column) for column in zip(*self.seen[1:], strict=True))
        return {
            "tokens_per_second": tokens / seconds,
            "flops_per_second": tokens / seconds * self.flops,
            "data_wait": waited / seconds,
        }
