"""Runs a plan: one stage after the other, each into a folder that counts only once it is whole.

A stage works inside its artifact folder and its manifest is written last; a folder without one is
unfinished, and the stage goes on in it. One run at a time holds the folder (llm/lease.py), and what
befalls the run is on record there (llm/events.py). After every stage the plan is resolved anew,
since a tokenizer tells the vocabulary. Ray is started when the first stage needs it.
"""

import platform
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.facts import MANIFEST, Facts, gather, refresh
from jobs.feedback import TRIES, take
from jobs.fit import require_fit
from jobs.perform import PERFORM, Work
from jobs.plan import Plan, StagePlan, resolve
from jobs.progress import telling
from jobs.spec import GenerateStage, PpoStage, Spec, TokenizerStage
from jobs.version import installed
from llm import lease
from llm.errors import DataError, Stopped
from llm.events import note, read
from llm.falls import account_of, falls_line
from llm.files import write_atomic, write_json
from llm.lease import Holding
from llm.metrics import duration, quantity, size_of, validation_line
from llm.pulse import last_pulse


def run(spec: Spec) -> None:
    """Do what the spec says and is not done yet."""
    console, began = Console(), time.time()
    facts = gather_and_keep(spec)
    write_atomic(spec.folder / "spec.yaml", Path(spec.origin.file).read_bytes())
    names = [one.name for one in resolve(spec, facts).stages if one.status != "on demand"]
    with ExitStack() as stack:
        for name in names:
            plan = resolve(spec, refresh(facts, spec))
            stage = plan.by_name[name]
            console.rule(f"[bold]{name}", align="left")
            if stage.cached:
                console.print(f"{stage.reason}; nothing to do", highlight=False)
            else:
                console.print(f"{stage.reason}", highlight=False)
                perform(plan, stage, console, stack)
    finish(resolve(spec, refresh(facts, spec)), console, time.time() - began)


def gather_and_keep(spec: Spec) -> Facts:
    """The facts, with a copy of what people said as the facts have it."""
    for _ in range(TRIES):
        facts = gather(spec)
        digests = {name: [one.digest for one in texts] for name, texts in facts.examples.items()}
        if take(spec, digests):
            return facts
    raise DataError(f"{spec.feedback}: what people say changes faster than it can be copied")


def perform(plan: Plan, stage: StagePlan, console: Console, stack: ExitStack) -> None:
    """Do one stage and commit its artifact."""
    folder = Work(plan, stage, console).folder
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder, console) as holding:
        if (folder / MANIFEST).exists():
            console.print("another run has just made it; nothing to do", highlight=False)
            return
        began = time.time()
        work = Work(plan, stage, console, holding.fence)
        if needs_ray(stage):
            start_ray(plan, console, stack)
            require_fit(work)
        metrics = PERFORM[stage.kind](work) | account_of(folder).metrics()
        seconds = round(time.time() - began, 1)
        holding.require()
        write_json(
            folder / MANIFEST,
            {**stage.manifest, "metrics": metrics, "seconds": seconds, "code": code(), "at": began},
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
    """Whether a stage works on the cluster; taking over a tokenizer or a few samples does not."""
    if isinstance(stage.stage, TokenizerStage):
        return stage.stage.file is None
    return not isinstance(stage.stage, GenerateStage)


def start_ray(plan: Plan, console: Console, stack: ExitStack) -> None:
    """Connect to Ray, until `stack` is closed."""
    from cluster.session import is_connected, session

    if not is_connected():
        on_sigterm = signal.getsignal(signal.SIGTERM)
        with console.status("starting Ray"):
            stack.enter_context(session(plan.cluster, actors_of(plan)))
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in place


def actors_of(plan: Plan) -> int:
    """Actors that a PPO has besides its workers; of several the most."""
    crews = [s.written.actors for s in plan.stages if isinstance(s.written, PpoStage)]
    return max((crew.writers + crew.judges for crew in crews if crew), default=0)


def finish(plan: Plan, console: Console, seconds: float) -> None:
    """Say what there is now and what to do with it."""
    console.rule(align="left")
    width = max(12, *(len(stage.name) for stage in plan.stages))
    for stage in plan.stages:
        shown = stage.folder or stage.reason
        console.print(f"{stage.name:{width}} {shown}", highlight=False, soft_wrap=True)
        for line in figures(stage.metrics):
            console.print(f"{'':{width}} {line}", highlight=False)
    command = f"; next:\n  {plan.next_command}" if plan.next_command else ""
    console.print(f"finished in {duration(seconds)}{command}", highlight=False, soft_wrap=True)


def figures(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The figures of a corpus or a training in words."""
    if "train_documents" in metrics:
        documents, size = metrics["train_documents"], size_of(metrics["train_bytes"])
        yield f"{documents:,} documents to train on, {size}"
    measured = {name: metrics[name] for name in metrics if name.startswith("validation_")}
    held_out = {
        **metrics,
        **{name.removeprefix("validation_"): measured[name] for name in measured},
    }
    if "bpb" in metrics:
        yield f"{metrics['bpb']:.3f} bits per byte of held-out text"
    elif held_out.keys() & {"loss", "reward"}:
        yield validation_line(held_out)
    if "tokens_per_second" in metrics:
        waited = metrics.get("data_wait")
        waiting = f", {waited:.1%} of the time waiting for data" if waited is not None else ""
        yield f"{quantity(metrics['tokens_per_second'])} tokens/s{waiting}"
    if "passes" in metrics:
        passes = (f"{name} {count:.3g}" for name, count in metrics["passes"].items())
        yield f"passes over {', '.join(passes)}"
    if fell := falls_line(metrics):
        yield fell


def code() -> dict[str, str]:
    """What made an artifact."""
    packages = ("humpty", "torch", "ray", "sentencepiece", "pyarrow", "resiliparse", "py3langid")
    return {"python": platform.python_version(), **{name: installed(name) for name in packages}}
