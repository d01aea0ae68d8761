"""How often a training may fall: counted in a row, since a long run falls often and gets on."""

from dataclasses import dataclass

from cluster.config import ClusterConfig
from cluster.falls import Fall, Kind


@dataclass(frozen=True)
class Patience:
    """Falls since the last checkpoint, and announced losses of nodes altogether."""

    falls: int = 0
    preemptions: int = 0
    saved: int = 0
    """Step of the newest checkpoint at the last fall."""

    def after(self, kind: Kind, saved: int) -> "Patience":
        """Counted on, the newest checkpoint being of step `saved`."""
        falls = self.falls if saved <= self.saved else 0
        return Patience(
            falls + (kind == "fall"),
            self.preemptions + (kind == "preemption"),
            max(saved, self.saved),
        )

    def spent(self, cluster: ClusterConfig, fall: Fall) -> str | None:
        """Why there is no other attempt, or None if there is."""
        most = cluster.max_preemptions
        if fall.kind == "preemption" and most is not None and self.preemptions > most:
            return (
                f"nodes were reclaimed {times(self.preemptions)}, {most} allowed "
                f"(cluster.max_preemptions); {self.kept}"
            )
        if fall.kind == "fall" and self.falls > cluster.max_failures:
            return (
                f"fell {times(self.falls)}, {cluster.max_failures} allowed between two checkpoints "
                f"(cluster.max_failures); {self.kept}"
            )
        return None

    @property
    def kept(self) -> str:
        """What is left."""
        return f"the checkpoint of step {self.saved} is kept" if self.saved else "nothing was saved"


def times(count: int) -> str:
    """`once`, `3 times`"""
    return "once" if count == 1 else f"{count} times"
