"""What must hold between the machines a spec asks for and what its stages do with them."""

from collections.abc import Iterator

from cluster.config import ClusterConfig
from cluster.labels import CONDITION, KEY
from jobs.spec import SpecFile
from jobs.stages import PpoStage, Stage
from jobs.yaml_source import Keys
from llm.config import LoopConfig

Findings = Iterator[tuple[Keys, str]]


def of_cluster(spec: SpecFile) -> Findings:
    """Numbers of workers in order; stages that can be trained in the way that is asked for."""
    yield from of_workers(spec.cluster)
    yield from of_labels(spec.cluster)
    for name, stage in spec.stages.items():
        for keys, message in of_falls(stage):
            yield ("stages", name, *keys), message
        if isinstance(stage, PpoStage):
            for keys, message in of_passes(stage):
                yield ("stages", name, *keys), message
        strategy = spec.cluster.strategy
        if strategy != "ddp" and isinstance(stage, PpoStage):
            message = (
                f"{strategy!r} is not allowed: stage {name} is a ppo, whose models are used whole "
                "while they are trained; use ddp, or put the ppo into a file of its own"
            )
            yield ("cluster", "strategy"), message


def of_passes(stage: PpoStage) -> Findings:
    """What PPO's own loop does not do: its answers have a new length each time."""
    if stage.compile is True:
        yield ("compile",), "true is not allowed in a ppo, whose layers are not compiled"
    if stage.recompute != "none":
        yield ("recompute",), f"{stage.recompute!r} is not allowed in a ppo, which keeps all"


def of_workers(cluster: ClusterConfig) -> Findings:
    """[min, max] stand in this order."""
    least, most = cluster.least_workers, cluster.most_workers
    if least > most:
        message = f"[{least}, {most}] is not allowed; the smaller number comes first"
        yield ("cluster", "workers"), message


def of_labels(cluster: ClusterConfig) -> Findings:
    """Conditions are such as Ray understands; CPUs and GPUs are asked for by keys of their own."""
    for nodes, labels in (("train", cluster.train.labels), ("data", cluster.data.labels)):
        for key, condition in labels.items():
            keys = ("cluster", nodes, "labels", key)
            if not KEY.fullmatch(key):
                yield keys, f"{key!r} is no label; letters, digits, `-`, `_` and `.`, 63 at most"
            if not CONDITION.fullmatch(condition):
                allowed = "a value, `!value`, `in(a, b)` or `!in(a, b)`"
                yield keys, f"{condition!r} is no condition of a label; {allowed}"
    own = {"CPU": "cpus_per_worker", "GPU": "gpus_per_worker"}
    for name in cluster.train.resources.keys() & own.keys():
        message = f"is asked for by cluster.{own[name]}; only other resources stand here"
        yield ("cluster", "train", "resources", name), message


def of_falls(stage: Stage) -> Findings:
    """PPO watches its own losses by guards, which know what answers look like."""
    if isinstance(stage, PpoStage) and stage.faults.spike != "ignore":
        message = f"{stage.faults.spike!r} has no place in a ppo; its `guards` watch over it"
        yield ("faults", "spike"), message
    if isinstance(stage, PpoStage) and stage.faults.not_finite == "roll_back":
        message = "'roll_back' is not allowed in a ppo, which writes its own data; stop or skip"
        yield ("faults", "not_finite"), message
    if isinstance(stage, LoopConfig) and stage.checkpoint.mirror == "":
        yield ("checkpoint", "mirror"), "is empty; give a folder or a URI, or leave it out"
