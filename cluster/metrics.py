"""A training's figures among Ray's own metrics, for Prometheus (`ray_humpty_...` there).

Labels are the run and the stage, and nothing that grows with time. Values are those of the log:
they come from the driver, who hears of every event, so workers that come and go take no series
with them. `deploy/grafana_training.json` is a dashboard of them.
"""

from pathlib import Path

from ray.util.metrics import Gauge

from llm.falls import account_of
from llm.metrics import Event

OF_STEP = {
    "step": "Steps done.",
    "steps": "Steps in all.",
    "tokens": "Tokens trained on.",
    "loss": "Training loss, nats a token.",
    "lr": "Learning rate.",
    "grad_norm": "Norm of the gradient.",
    "tokens_per_second": "Tokens of all workers together, a second.",
    "mfu": "Share of the machines' matrix-product rate that the model's arithmetic takes.",
    "data_wait": "Share of the time spent waiting for data.",
    "eta": "Seconds until the last step.",
    "reward": "Mean reward of PPO's answers.",
    "kl": "Divergence of PPO's policy from the reference, nats an answer.",
}
OF_VALIDATION = {
    "loss": "Loss on what is held out.",
    "bpb": "Bits per byte of held-out text.",
    "accuracy": "Share of held-out comparisons that are right.",
    "filled": "Share of hidden tokens of held-out text that are found out.",
    "restored": "Share of letters of held-out words that come back from their code.",
    "reward": "Mean reward on held-out prompts.",
}
OF_CHECKPOINT = {
    "seconds": "From the moment that is saved until the checkpoint was whole.",
    "stall": "Seconds that training waited for it.",
}
OF_RUN = {
    "workers": "Processes that train.",
    "falls": "Falls so far.",
    "lost_seconds": "Seconds until what had been reached before falls was reached again.",
    "goodput": "Share of the time that was not lost.",
}

GAUGES = {
    f"humpty_{prefix}{name}": text
    for prefix, named in (
        ("", OF_STEP),
        ("validation_", OF_VALIDATION),
        ("checkpoint_", OF_CHECKPOINT),
        ("", OF_RUN),
    )
    for name, text in named.items()
}
"""All that there are, and what they mean."""


class Published:
    """Takes events and sets gauges."""

    def __init__(self, run: str, stage: str, folder: Path) -> None:
        self.labels, self.folder = {"run": run, "stage": stage}, folder
        self.gauges: dict[str, Gauge] = {}

    def __call__(self, event: Event) -> None:
        """Set what an event tells."""
        match event["event"]:
            case "step":
                self.set_all("", OF_STEP, event)
            case "validation":
                self.set_all("validation_", OF_VALIDATION, event)
            case "checkpoint":
                self.set_all("checkpoint_", OF_CHECKPOINT, event)
                self.account()
            case "start":
                self.set_all("", {"workers": "", "step": "", "steps": ""}, event)
                self.account()
            case "fall" | "again" | "end":
                self.account()

    def account(self) -> None:
        """What falls have cost so far."""
        self.set_all("", OF_RUN, account_of(self.folder).metrics())

    def set_all(self, prefix: str, names: dict[str, str], values: Event) -> None:
        """Those of the names that have values."""
        for name in names:
            value = values.get(name)
            if isinstance(value, int | float):
                self.gauge(f"humpty_{prefix}{name}").set(value)

    def gauge(self, name: str) -> Gauge:
        """A gauge, made when it is first set: series that say nothing are not shown."""
        if name not in self.gauges:
            gauge = Gauge(name, GAUGES[name], tag_keys=("run", "stage"))
            gauge.set_default_tags(self.labels)
            self.gauges[name] = gauge
        return self.gauges[name]
