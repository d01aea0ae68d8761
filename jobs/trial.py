"""One trial of a sweep: ordinary stages, run one after the other in a folder of their own.

It runs in a process of Ray Tune. What it builds on (corpus, tokenizer, tokens) was made before and
is only read. Everything that `run` knows holds here too: artifacts, checkpoints, going on after a
fall, the lease. What the last stage measures is reported, and the sweep decides whether it goes on.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.facts import CHECKPOINTS, Facts, refresh
from jobs.graph import tokens_of
from jobs.kinds import TRAININGS, references
from jobs.load import built, with_paths
from jobs.plan import resolve
from jobs.planned import StagePlan
from jobs.point import laid_over
from jobs.progress import unheard
from jobs.side_by_side import on_machines
from jobs.spec import Spec
from jobs.stage_run import perform
from jobs.stages import PretrainStage, Stage
from jobs.yaml_source import Source
from llm.checkpoint import name_of, read_position, steps
from llm.metrics import Event
from tune.actor import Report
from tune.config import ResourcesConfig
from tune.space import Point
from tune.trials import hold

LOG = "trial.log"
"""What the stages of a trial print, in its folder."""

SHARES = 1000
"""Length of a training that is told in epochs or steps: it is compared at equal shares."""


@dataclass(frozen=True)
class TrialRun:
    """What Ray Tune calls for every trial."""

    spec: Spec
    facts: Facts
    each: ResourcesConfig
    of: tuple[str, ...]
    checkpoint_every: int | None
    """Steps between validations, if a checkpoint is wanted with each (pbt)."""

    def __call__(self, point: Point, folder: Path, report: Report) -> Mapping[str, float]:
        """Run the stages with these values; the figures of the last one."""
        spec = self.spec_of(point, report.seed, folder)
        with open(folder / LOG, "a") as log, ExitStack() as stack:
            console = Console(file=log, width=100)
            for name in stages_run(self.of, spec.stages):
                plan = resolve(spec, refresh(self.facts, spec))
                stage = plan.by_name[name]
                if stage.cached:
                    continue
                last = name == self.of[-1]
                told = Told(report, stage, self.checkpoint_every is not None)
                if last and report.start:
                    begin_with(report.start, stage)
                perform(plan, stage, console, stack, told if last else unheard)
        done = resolve(spec, refresh(self.facts, spec)).by_name[self.of[-1]]
        return figures_of(done.metrics)

    def spec_of(self, point: Point, seed: int, folder: Path) -> Spec:
        """The spec of a trial, as if its values stood in the file."""
        source = without_others(self.spec, self.of)
        if self.checkpoint_every is not None:
            every = f"{self.of[-1]}.checkpoint.every"
            source = laid_over(source, every, self.checkpoint_every)
        for path, value in point.items():
            source = laid_over(source, path, value)
        made = with_paths(built(source, self.spec.origin.file, self.spec.origin.overrides))
        return replace(
            made,
            storage=self.spec.storage,
            cluster=on_machines(made.cluster, self.each),
            seed=self.spec.seed + seed,
            places={name: folder / name for name in stages_run(self.of, made.stages)},
        )


def without_others(spec: Spec, of: Sequence[str]) -> Source:
    """The spec as it was written, with the stages of a trial and what these build on alone."""
    source = spec.origin.source
    kept = {name: source.values["stages"][name] for name in upstream(of, spec.stages)}
    return replace(source, values={**source.values, "stages": kept})


def upstream(names: Sequence[str], stages: Mapping[str, Stage]) -> list[str]:
    """Stages, and all that they build on, in the order of the file."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += references(stages[name]).values()
    return [name for name in stages if name in found]


def stages_run(of: Sequence[str], stages: Mapping[str, Stage]) -> list[str]:
    """What a trial runs: its stages, and tokens that only it has, its tokenizer being its own."""
    names: list[str] = []
    for name in of:
        stage = stages[name]
        tokens = tokens_of(stage)
        if tokens and not {stage.tokenizer, stage.corpus}.isdisjoint(of):  # type: ignore[union-attr]
            names.append(tokens)
        names.append(name)
    return names


def begin_with(start: Path, stage: StagePlan) -> None:
    """Go on from another trial's checkpoint, unless there are own ones already."""
    assert stage.folder
    own = stage.folder / CHECKPOINTS
    if not steps(own):
        own.mkdir(parents=True, exist_ok=True)
        hold(start, own / name_of(read_position(start).step))


class Told:
    """Turns what a training says into reports to its sweep, one for each validation."""

    def __init__(self, report: Report, stage: StagePlan, with_checkpoints: bool) -> None:
        self.report, self.with_checkpoints = report, with_checkpoints
        self.stage = stage.stage
        self.steps = getattr(stage.stage, "steps", 0)
        self.validated: dict[int, dict[str, float]] = {}
        self.saved: dict[int, Path] = {}
        self.done = 0

    def __call__(self, event: Event) -> None:
        """Report when all that belongs to a validation is there; passes on Stop."""
        step = event["step"]
        match event["event"]:
            case "start":
                self.steps = event["steps"]
            case "validation":
                self.validated[step] = figures_of(event)
            case "checkpoint":
                self.saved[step] = Path(event["path"])
        if step > self.done and self.is_whole(step):
            self.done = step
            figures = self.validated.pop(step)
            self.report(self.tokens(step), figures, self.saved.get(step))

    def is_whole(self, step: int) -> bool:
        """Whether a step was measured, and is saved if it must be."""
        return step in self.validated and (not self.with_checkpoints or step in self.saved)

    def tokens(self, step: int) -> int:
        """How far the training is at a step."""
        if isinstance(self.stage, PretrainStage):
            return step * self.stage.batch * self.stage.model.context
        return round(SHARES * step / self.steps)


def length_of(stage: StagePlan) -> int:
    """How long the last stage of a whole trial is, as its file has it."""
    assert isinstance(stage.stage, TRAININGS)
    return stage.stage.tokens if isinstance(stage.stage, PretrainStage) else SHARES


def figures_of(values: Mapping[str, Any]) -> dict[str, float]:
    """Figures under the names that validations have."""
    return {
        key.removeprefix("validation_"): float(value)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
