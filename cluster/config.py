"""The machines a run asks for: a frozen record, neither torch nor ray."""

from dataclasses import field
from typing import Literal

from llm.config import Auto, Count, CountOrZero, Rate, RateOrZero, auto, record


@record
class TrainNodes:
    """Which nodes train, write and judge."""

    labels: dict[str, str] = field(default_factory=dict)
    """Labels of these nodes (`ray start --labels role=train`): a value, `!value`, `in(a, b)` or
    `!in(a, b)`; none: any node."""
    resources: dict[str, Rate] = field(default_factory=dict)
    """Of each worker besides CPUs and GPUs: resources that nodes were started with."""


@record
class DataNodes:
    """Which nodes read, clean and tokenise."""

    labels: dict[str, str] = field(default_factory=dict)
    """Labels of these nodes; none: any node, also those that train."""


@record
class ClusterConfig:
    """Workers of Ray Train and what each of them gets."""

    workers: Count | tuple[Count, Count] = 1
    """Processes that train one model together (data parallel); [min, max]: as many as the cluster
    has room for, also when nodes leave and join."""
    strategy: Literal["ddp", "fsdp", "hsdp"] = "ddp"
    """Every worker holds the whole model; weights and optimizer state are shared out over all
    workers; or over those of a node, so that every node holds the whole."""
    cpus_per_worker: Auto[Count] = auto
    """CPU cores of a worker; auto: the machine's cores shared out evenly, 1 at least."""
    gpus_per_worker: RateOrZero = 0
    """GPUs of a worker; 0 trains on CPU."""
    max_failures: CountOrZero = 3
    """Falls in a row, without a new checkpoint, before the run gives up."""
    max_preemptions: CountOrZero | None = None
    """Announced losses of nodes before the run gives up; null: any number."""
    hang_timeout: Rate = 300.0
    """Seconds without a step, a validation or a save after which workers count as hung."""
    mtbf_hours: Rate = 1000.0
    """Hours from one failure of a worker to its next, on average; `plan` reckons with it."""
    price: RateOrZero = 0
    """Dollars for an hour of one GPU; `plan --workers N --gpu NAME` reckons with it."""
    ingest_cpus: Count = 2
    """CPU cores besides the workers' for reading and tokenising."""
    read_ahead: Count = 256
    """Megabytes of tokenised rows that wait for the workers at most."""
    train: TrainNodes = field(default_factory=TrainNodes)
    """Nodes of the workers."""
    data: DataNodes = field(default_factory=DataNodes)
    """Nodes of all work on text."""

    @property
    def least_workers(self) -> int:
        """Workers with which a training goes on."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most_workers(self) -> int:
        """Workers with which it trains if there is room."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]
