"""Let a spec fall before it matters: its own stages at toy size, on a cluster that may be killed.

    python -m jobs rehearse FILE [KEY=VALUE ...] [--falls worker,driver]

First the toy runs undisturbed. Then, for every training and every kind of fall, that stage is done
again by `python -m jobs run` in a storage of its own, falls, gets up, and is compared with the
undisturbed one: the loss of every step, the final weights, the data it saw. All this is done in a
temporary folder on a cluster of its own; what broke is kept. Half a minute a fall on two cores.
"""

import math
import random
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from jobs.figures import counted
from jobs.kinds import TRAININGS
from jobs.load import load
from jobs.rehearse_cluster import Playground, playground
from jobs.rehearse_compare import Comparison, compare
from jobs.rehearse_falls import FALLS, NAMES, Stage, disk_for, slow_disk
from jobs.rehearse_show import Outcome, Show, showing, summary
from jobs.rehearse_slices import Slices
from jobs.rehearse_toy import NAME, toy, written
from jobs.rehearse_trial import Broken, Skipped, Trial
from jobs.spec import Spec
from jobs.stages import PpoStage, PretrainStage
from llm.errors import SpecError
from llm.pulse import last_pulse

LIGHT_CPUS = 3
"""For the stream's other operators, and those that cluster.session adds for them."""


def rehearse(file: str, overrides: Iterable[str], falls: str) -> int:
    """Rehearse all falls, or those that are named with commas; 0 if all held, else 1."""
    began = time.monotonic()
    chosen = chosen_of(falls)
    spec = load(file, overrides)
    if not any(isinstance(stage, TRAININGS) for stage in spec.stages.values()):
        raise SpecError(f"{file}: has no stage that trains; there is nothing to rehearse")
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="humpty-", dir="/tmp"))  # sockets ask for short names
    outcomes: list[Outcome] = []
    try:
        with console.status("cutting a slice of the data"):
            rehearsal = prepare(spec, folder, console)
        stages, each = ", ".join(rehearsal.trainings), counted(len(chosen), "fall")
        say(console, f"{spec.name} at toy size: {stages}; {each} each, about half a minute a fall")
        with showing(console) as show:
            outcomes = show.outcomes
            rehearsal.run(chosen, show)
    finally:
        if any(one.broken for one in outcomes):
            say(console, f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    say(console, summary(outcomes, time.monotonic() - began, spec.command("run")))
    return 1 if any(one.broken for one in outcomes) else 0


def chosen_of(falls: str) -> list[str]:
    """`worker,driver` or `all` as names."""
    names = list(FALLS) if falls == "all" else falls.split(",")
    for name in names:
        if name not in FALLS:
            raise SpecError(f"--falls: {name!r} is none; there are {', '.join(FALLS)}, or all")
    return names


def named(fall: str) -> str:
    """What a fall is called in the table."""
    return NAMES.get(fall, fall)


def say(console: Console, text: str) -> None:
    """Print lines as they are."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def prepare(spec: Spec, folder: Path, console: Console) -> "Rehearsal":
    """The toy on slices of the data, in the folder."""
    (folder / "data").mkdir()
    (folder / "ray").mkdir()
    slices = Slices(folder / "data", spec)
    small = toy(spec, slices)
    slow_disk(folder / "path", folder / "slow")
    for shards in dict.fromkeys(slices.replaced):
        say(console, f"{shards}: cannot be read here; Python's documentation stands for it")
    return Rehearsal(small, folder)


@dataclass(frozen=True)
class Rehearsal:
    """A toy spec, and the folder for all that is made."""

    spec: Spec
    folder: Path

    @property
    def trainings(self) -> list[str]:
        """The stages that fall, in the order in which they run."""
        return [name for name, one in self.spec.stages.items() if isinstance(one, TRAININGS)]

    @property
    def cpus(self) -> int:
        """Of the node that computes."""
        cluster = self.spec.cluster
        crews = [one.actors for one in self.spec.stages.values() if isinstance(one, PpoStage)]
        actors = max((crew.writers + crew.judges for crew in crews if crew), default=0)
        return cluster.most_workers + actors + cluster.ingest_cpus + LIGHT_CPUS

    def run(self, falls: list[str], show: Show) -> None:
        """The undisturbed run, then every fall of every training."""
        show.doing("starting a cluster")
        with playground(self.folder / "ray", self.cpus, self.folder / "path") as cluster:
            show.doing("running undisturbed")
            whole = self.trial("whole", cluster)
            whole.storage.mkdir()
            whole.start()
            try:
                whole.ends_well()
            except Broken as error:
                show.done(Outcome("all", "none", broken=f"the undisturbed run {error}"))
                return
            finally:
                whole.kill()
            for stage in self.trainings:
                for fall in falls:
                    show.doing(f"{stage}: {named(fall)}")
                    show.done(self.fall(fall, stage, cluster, whole))

    def trial(self, name: str, cluster: Playground, stage: str = "") -> Trial:
        """A run in a folder of its own, of all stages or of one and those it builds on."""
        folder = self.folder / name
        folder.mkdir()
        path = folder / f"{NAME}.yaml"
        path.write_text(written(self.spec, stage))
        return Trial(folder, path, cluster.environment, stage)

    def fall(self, fall: str, stage: str, cluster: Playground, whole: Trial) -> Outcome:
        """One training, one fall."""
        trial = self.trial(f"{stage}-{fall}", cluster, stage)
        whole = replace(whole, stage=stage)
        with ExitStack() as stack:
            try:
                stack.enter_context(disk_for(fall, trial.storage))
                stack.callback(trial.kill)
                trial.build_on(whole)
                trial.start()
                FALLS[fall](trial, Stage(cluster, self.folder / "slow"), self.step(whole, fall))
                text = isinstance(self.spec.stages[stage], PretrainStage)
                return outcome(stage, named(fall), trial, compare(trial, whole, text))
            except Skipped as reason:
                return Outcome(stage, named(fall), skipped=str(reason))
            except Broken as reason:
                return Outcome(stage, named(fall), broken=f"{reason} ({trial.log})")

    def step(self, whole: Trial, fall: str) -> int:
        """When it falls: somewhere in the middle, the same in every rehearsal of the seed."""
        steps = last_pulse(whole.made)
        assert steps, "a training that has ended has a pulse"
        first, last = math.ceil(steps[0] * 0.4), math.ceil(steps[0] * 0.7)
        return random.Random(f"{self.spec.seed} {whole.stage} {fall}").randint(first, last)


def outcome(stage: str, what: str, trial: Trial, compared: Comparison) -> Outcome:
    """What became of a training that fell and came to its end."""
    again = [event for event in trial.events if event["event"] == "again"]
    return Outcome(
        stage,
        what,
        step=again[0]["reached"] if again else None,
        recovered=sum(event["lost"] for event in again) if again else None,
        redone=sum(event["redone"] for event in again),
        comparison=compared,
        broken=f"{compared.difference} ({trial.folder})" if compared.difference else None,
    )
