"""How often a training should save on these machines, and how much of the time then trains."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cluster.config import ClusterConfig
from jobs.measured import Measured
from jobs.stages import PretrainStage
from llm.config import LoopConfig, auto
from llm.goodput import Costs, best_interval, between_falls, goodput
from llm.metrics import size_of

BYTES_PER_PARAMETER = 12
"""fp32 weights and AdamW's two moments."""

ASSUMED_WRITE_SPEED = 100e6
"""Bytes per second to a disk that could not be probed."""

COPY_SPEED = 2e9
"""Bytes per second of the copy that training waits for (a core of a server)."""

ASSUMED_RESTART = 30.0
"""Seconds from a fall to the next step where no earlier fall tells."""

WORTH_SAYING = 0.01
"""Share of the time that another interval must win."""

LARGER = (8, 64, 512)
"""Workers for which goodput is foretold, too."""


@dataclass(frozen=True)
class Saving:
    """What saving costs and wins; times in seconds."""

    every: int | None
    """Steps; None: a share of steps that are not counted yet."""
    step: float | None
    """A step takes so long; None: nobody knows yet."""
    costs: Costs
    mtbf: float
    """Between two falls of the group."""
    source: str
    """What the costs of a save go by."""
    known_restart: bool
    """A restart was measured."""
    goodputs: Mapping[int, float]
    """Expected share of the time that trains, by workers, each at its own best interval."""

    @property
    def best(self) -> float:
        """Seconds between saves at which most of the time trains."""
        return best_interval(self.costs, self.mtbf)

    @property
    def best_every(self) -> int | None:
        """The same in steps."""
        return max(1, round(self.best / self.step)) if self.step else None

    @property
    def goodput(self) -> float:
        """Expected share of the time that trains; at the best interval, if its own is unknown."""
        interval = self.every * self.step if self.every and self.step else self.best
        return goodput(self.costs, interval, self.mtbf)

    @property
    def wasted(self) -> float:
        """Share of the time that the best interval would win, if that is worth a word."""
        won = goodput(self.costs, self.best, self.mtbf) - self.goodput
        return won if won >= WORTH_SAYING else 0.0


def saving_of(
    stage: LoopConfig,
    parameters: int,
    step: float | None,
    cluster: ClusterConfig,
    measured: Measured,
    write_speed: float | None,
) -> Saving:
    """The saving of a resolved training of so many parameters; `step` is an estimate."""
    size = BYTES_PER_PARAMETER * parameters
    costs = Costs(
        stall=measured.stall or size / COPY_SPEED,
        write=measured.write or size / (write_speed or ASSUMED_WRITE_SPEED),
        restart=measured.restart or ASSUMED_RESTART,
    )
    workers, hours = cluster.most_workers, cluster.mtbf_hours
    between = {count: between_falls(hours, count) for count in (workers, *LARGER)}
    return Saving(
        every=None if stage.checkpoint.every == auto else stage.checkpoint.every,
        step=measured.step or step,
        costs=costs,
        mtbf=between[workers],
        source=source_of(measured, size, write_speed),
        known_restart=measured.restart is not None,
        goodputs={
            count: goodput(costs, best_interval(costs, mtbf), mtbf)
            for count, mtbf in between.items()
            if count >= workers
        },
    )


def source_of(measured: Measured, size: float, write_speed: float | None) -> str:
    """What the costs of a save go by."""
    if measured.write is not None:
        return "measured"
    speed = f"{size_of(write_speed or ASSUMED_WRITE_SPEED)}/s"
    return f"{size_of(size)} at {speed}, {'probed' if write_speed else 'assumed'}"


def often_enough(stage: PretrainStage, written: LoopConfig, saving: Saving) -> PretrainStage:
    """The same; where nobody says how often to save, no more rarely than is best."""
    best, every = saving.best_every, stage.checkpoint.every
    if written.checkpoint.every != auto or best is None or best >= every:
        return stage
    return replace(stage, checkpoint=replace(stage.checkpoint, every=best))
