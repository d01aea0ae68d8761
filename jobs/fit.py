"""What a stage of a plan needs of the cluster, and the refusal to start where that is not met."""

from typing import TYPE_CHECKING

from jobs.estimate import shards_of
from jobs.kinds import (
    TRAININGS,
    data_sets,
    measured_on,
    reads_data,
)
from jobs.progress import telling
from jobs.stages import (
    FEEDBACK,
    PYDOC,
    CorpusStage,
    EvaluateStage,
    GenerateStage,
    PpoStage,
    PretrainStage,
)
from jobs.work import Work

if TYPE_CHECKING:
    from cluster.fit import Keys, Needs


def require_fit(work: Work) -> None:
    """Wait for nodes that an autoscaler brings; SpecError for what nobody will mend.

    Later stages are looked at, too: hours of cleaning are lost if there is no GPU to train on then.
    """
    from cluster.ready import ready

    names = list(work.plan.by_name)
    later = [
        needs_of(Work(work.plan, work.plan.by_name[name], work.console))
        for name in names[names.index(work.stage.name) + 1 :]
        if work.plan.by_name[name].status == "will run"
    ]
    with telling(work.console, "looking at the cluster") as say:
        found = ready(needs_of(work), later, say)
    if found:
        raise work.plan.spec.origin.error([(one.keys, one.text) for one in found])


def needs_of(work: Work) -> "Needs":
    """What a stage needs, as far as that is known."""
    from cluster.fit import Needs
    from cluster.room import demand_of, stream_cpus

    cluster, stage = work.plan.cluster, work.stage.written
    streams = isinstance(stage, PretrainStage)
    spare = stream_cpus(cluster) if streams else 0
    if isinstance(stage, PpoStage) and stage.actors:
        spare += (stage.actors.writers + stage.actors.judges) * cluster.cpus_per_worker
    return Needs(
        cluster,
        ("stages", work.stage.name),
        demand_of(cluster, spare) if isinstance(stage, TRAININGS | EvaluateStage) else None,
        text=not isinstance(stage, GenerateStage),
        worker_bytes=worker_bytes(work),
        chunk_bytes=chunk_bytes(work) if streams else 0,
        storage=str(work.plan.spec.folder),
        texts=texts_of(work),
    )


def worker_bytes(work: Work) -> int:
    """Memory of a worker as the plan has it, 0 if it says nothing."""
    if work.stage.estimate is None:
        return 0
    parts = work.stage.estimate.bytes_per_worker
    cluster = work.plan.cluster
    shared = shards_of(cluster, cluster.least_workers)
    return sum(
        size // (shared if part in ("weights", "gradients", "optimizer") else 1)
        for part, size in parts.items()
    )


def chunk_bytes(work: Work) -> int:
    """Token ids of a block of a pretraining's stream; at least 1."""
    from cluster.ingest import Dealing

    stage = work.stage.stage
    if not isinstance(stage, PretrainStage):
        return 1
    context = stage.model.context
    rows = Dealing(stage.batch, stage.micro_batch, work.plan.cluster.most_workers).chunk(context)
    return rows * (context + 1) * 4


def texts_of(work: Work) -> "dict[Keys, tuple[str, ...]]":
    """The local files that a stage's tasks read, by their place in the spec."""
    spec, stage, name = work.plan.spec, work.stage.written, work.stage.name
    found: dict[Keys, tuple[str, ...]] = {}
    if spec.data is not None and reads_data(stage):
        found["data", "shards"] = spec.data.shards
        found["data", "validation", "shards"] = spec.data.validation.shards
    if isinstance(stage, CorpusStage):
        for source, config in stage.sources.items():
            found["stages", name, "sources", source, "shards"] = config.shards
    for number, one in enumerate(data_sets(stage)):
        found["stages", name, "data", number, "shards"] = one.shards
    for place, measured in measured_on(stage).items():
        found["stages", name, *place, "shards"] = measured.shards
    return {keys: local for keys, shards in found.items() if (local := on_disk(shards))}


def on_disk(shards: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are paths."""
    paths = (one.removeprefix("file://") for one in shards if one not in (PYDOC, FEEDBACK))
    return tuple(path for path in paths if "://" not in path)
