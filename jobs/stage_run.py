"""One stage from its folder to its manifest, for whoever runs it: `run`, or a trial of a sweep.

A stage works inside its artifact folder and its manifest is written last; a folder without one is
unfinished, and the stage goes on in it. One run at a time holds the folder (llm/lease.py), and what
befalls the run is on record there (llm/events.py).
"""

import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from jobs.facts import MANIFEST
from jobs.fit import require_fit
from jobs.inputs import inputs_of
from jobs.perform import PERFORM
from jobs.planned import Plan, StagePlan
from jobs.progress import telling, unheard
from jobs.side_by_side import cpus_side_by_side
from jobs.stages import (
    ExportStage,
    GenerateStage,
    ImportStage,
    PpoStage,
    SearchStage,
    TokenizerStage,
)
from jobs.version import commit, installed
from jobs.work import Work
from llm import lease
from llm.errors import Stopped
from llm.events import note, read
from llm.falls import account_of
from llm.files import write_json
from llm.lease import Holding
from llm.metrics import Emit, duration
from llm.pulse import last_pulse


def perform(
    plan: Plan,
    stage: StagePlan,
    console: Console,
    stack: ExitStack,
    also: Emit = unheard,
) -> None:
    """Do one stage and commit its artifact; `also` hears the events of a training."""
    folder = Work(plan, stage, console).folder
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder, console) as holding:
        if stage.extends:
            (folder / MANIFEST).unlink(missing_ok=True)
        if (folder / MANIFEST).exists():
            console.print("another run has just made it; nothing to do", highlight=False)
            return
        began = time.time()
        work = Work(plan, stage, console, holding.fence, also)
        if needs_ray(stage):
            start_ray(plan, console, stack)
            require_fit(work)
        metrics = PERFORM[stage.kind](work) | account_of(folder).metrics()
        seconds = round(time.time() - began, 1)
        holding.require()
        made = {"seconds": seconds, "code": code(), "at": began, "host": platform.node()}
        inputs = inputs_of(stage.name, stage.written, plan.facts)
        write_json(
            folder / MANIFEST,
            {**stage.manifest, "inputs": inputs, "metrics": metrics, **made},
        )
    console.print(f"done in {duration(seconds)}: {folder}", highlight=False, soft_wrap=True)


@contextmanager
def held(folder: Path, console: Console) -> Iterator[Holding]:
    """The folder is this run's inside the block; a fall of the run before is put on record."""
    with ExitStack() as stack:
        with telling(console, "looking for other runs") as say:
            holding = stack.enter_context(lease.holding(folder, say))
        if holding.fallen:
            before = f"process {holding.fallen.pid} on {holding.fallen.host}"
            note(folder, "fall", cause=f"the run ended without a word ({before})")
        try:
            yield holding
        except (KeyboardInterrupt, Stopped):
            known = read(folder)[-1:]  # by a training that was asked in time
            if holding.fence() and not (known and known[0]["event"] == "stopped"):
                note(folder, "stopped", step=(last_pulse(folder) or (0,))[0])
            raise


def needs_ray(stage: StagePlan) -> bool:
    """Whether a stage works on the cluster; taking over, writing out, a few samples do not."""
    if isinstance(stage.stage, TokenizerStage):
        return stage.stage.file is None
    return not isinstance(stage.stage, GenerateStage | ImportStage | ExportStage)


def start_ray(plan: Plan, console: Console, stack: ExitStack) -> None:
    """Connect to Ray, until `stack` is closed."""
    from cluster.session import is_connected, session

    if not is_connected():
        on_sigterm = signal.getsignal(signal.SIGTERM)
        with console.status("starting Ray"):
            stack.enter_context(session(plan.cluster, actors_of(plan), cpus_of_searches(plan)))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in place


def actors_of(plan: Plan) -> int:
    """Actors that a PPO has besides its workers; of several the most."""
    crews = [s.written.actors for s in plan.stages if isinstance(s.written, PpoStage)]
    return max((crew.writers + crew.judges for crew in crews if crew), default=0)


def cpus_of_searches(plan: Plan) -> int:
    """Logical CPUs that trials side by side take on this machine; 0 without a sweep."""
    waiting = [one for one in plan.stages if isinstance(one.written, SearchStage)]
    return max((cpus_side_by_side(plan, one) for one in waiting if not one.cached), default=0)


def code() -> dict[str, str]:
    """What made an artifact."""
    packages = ("humpty", "torch", "ray", "sentencepiece", "pyarrow", "resiliparse", "py3langid")
    known = {"python": platform.python_version(), **{name: installed(name) for name in packages}}
    return known if (at := commit()) is None else {"commit": at, **known}
