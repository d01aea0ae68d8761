"""What the plan shows of sweeps and ladders."""

from collections.abc import Iterator

from jobs.figures import counted
from jobs.planned import Plan, StagePlan
from jobs.side_by_side import machines_of, side_by_side
from jobs.stages import ScalingStage, SearchStage, SweepStage
from llm.metrics import duration, quantity
from tune.search import trials_of
from tune.space import kind_of, short

Rows = Iterator[tuple[str, str]]


def search_rows(search: SearchStage, stage: StagePlan, plan: Plan) -> Rows:
    """What is tried, how many trainings that makes, and how long they take at most."""
    if isinstance(search, SweepStage):
        yield from sweep_rows(search)
    else:
        yield from ladder_rows(search)
    if stage.stage is not None:
        yield "each", machines(search, plan)
        yield from cost_rows(search, plan)
    if "best" in stage.metrics:
        best = stage.metrics["best"]
        values = ", ".join(f"{path} {short(value)}" for path, value in best["point"].items())
        yield "best", f"{best['metric']} {best['figure']:.4g} with {values}"
    if "law" in stage.metrics:
        yield "result", stage.metrics["law"]["text"]


def sweep_rows(sweep: SweepStage) -> Rows:
    """The space, the search and who ends trials."""
    yield "runs", " -> ".join(sweep.of)
    for path, dimension in sweep.space.items():
        kind = kind_of(dimension)
        values = ", ".join(short(value) for value in getattr(dimension, kind))
        when = "".join(
            f", where {other} is {' or '.join(map(str, allowed))}"
            for other, allowed in dimension.when.items()
        )
        yield "space", f"{path}: {kind} [{values}]{when}"
    seeds = f", each with {sweep.seeds} seeds" if sweep.seeds > 1 else ""
    yield "trials", f"{trials_of(sweep)} by {sweep.search}{seeds}, scheduler {sweep.scheduler}"
    limits = [f"{quantity(sweep.tokens)} tokens"] if sweep.tokens else []
    limits += [f"{sweep.hours:g} hours"] if sweep.hours else []
    if limits:
        yield "ends after", " or ".join(limits)
    better = "least" if sweep.mode == "min" else "most"
    yield "best is", f"{better} {sweep.metric}"


def ladder_rows(ladder: ScalingStage) -> Rows:
    """Depths and rungs."""
    depths = ", ".join(map(str, ladder.depths))
    rungs = ", ".join(f"{quantity(flops)}" for flops in sorted(ladder.budgets))
    yield "runs", f"{ladder.of} with depths {depths}, each at {rungs} FLOPs"
    yield "asks", f"what {quantity(ladder.predict)} FLOPs are best spent on"


def machines(search: SearchStage, plan: Plan) -> str:
    """What a trial takes, and how many run together."""
    each = machines_of(plan, search)
    gpus = f" and {each.gpus_per_worker:g} GPU" if each.gpus_per_worker else ""
    cores = counted(each.cpus_per_worker, "core")
    together = counted(side_by_side(plan, search), "trial")
    return f"{counted(each.most_workers, 'worker')} with {cores}{gpus}; {together} at a time here"


def cost_rows(search: SearchStage, plan: Plan) -> Rows:
    """An upper bound of the time, where the trials' stage has an estimate."""
    together = side_by_side(plan, search)
    cores = plan.cluster.most_workers * plan.cluster.cpus_per_worker
    each = machines_of(plan, search)
    if isinstance(search, ScalingStage):
        total = len(search.depths) * sum(search.budgets)
        yield "compute", f"{quantity(total)} FLOPs"
        return
    estimate = plan.by_name[search.of[-1]].estimate
    if estimate is None:
        return
    slower = cores / (each.most_workers * each.cpus_per_worker)
    trials = trials_of(search) * search.seeds
    seconds = estimate.seconds * slower * trials / min(together, trials)
    yield "time", f"{duration(seconds)} at most, if all went all the way"
