"""Runs a plan: one stage after the other, each into a folder that counts only once it is whole.

After every stage the plan is resolved anew, since a tokenizer tells the vocabulary. Ray is started
when the first stage needs it.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs import inside
from jobs.facts import Facts, gather, refresh
from jobs.feedback import TRIES, take
from jobs.plan import resolve
from jobs.planned import Plan, StagePlan
from jobs.report import reported
from jobs.run_record import write_record
from jobs.spec import Spec
from jobs.stage_run import perform
from llm.errors import DataError, Stopped
from llm.falls import falls_line
from llm.files import write_atomic
from llm.metrics import duration, quantity, size_of, validation_line
from tune.space import short


def run(spec: Spec) -> None:
    """Do what the spec says and is not done yet."""
    console, began = Console(), time.time()
    inside.require_place(spec.storage)
    written = spec.origin.source.values.get("storage", "runs")
    for remark in inside.remarks(spec.storage, written):
        console.print(remark, markup=False, highlight=False, soft_wrap=True)
    facts = gather_and_keep(spec)
    write_atomic(spec.folder / "spec.yaml", Path(spec.origin.file).read_bytes())
    names = [one.name for one in resolve(spec, facts).stages if one.status != "on demand"]
    with reported(spec.folder, console), ExitStack() as stack:
        for name in names:
            plan = resolve(spec, refresh(facts, spec))
            write_record(plan, began)
            stage = plan.by_name[name]
            console.rule(f"[bold]{name}", align="left")
            if stage.cached:
                console.print(f"{stage.reason}; nothing to do", highlight=False)
            else:
                console.print(f"{stage.reason}", highlight=False)
                try:
                    perform(plan, stage, console, stack)
                except KeyboardInterrupt:
                    raise Stopped(broken_off(stage)) from None
        write_record(resolve(spec, refresh(facts, spec)), began)
    finish(resolve(spec, refresh(facts, spec)), console, time.time() - began)


def broken_off(stage: StagePlan) -> str:
    """What becomes of a stage that Ctrl-C has ended at once."""
    kept = KEPT.get(stage.kind, "begins anew")
    return f"stopped in '{stage.name}', which {kept}; stages that are done are not done again"


KEPT = {
    "corpus": "goes on behind the portions that are read",
    "sweep": "goes on behind the trials that have ended",
    "scaling": "goes on behind the trainings that have ended",
} | dict.fromkeys(
    ("pretrain", "sft", "reward", "dpo", "ppo"), "goes on behind its newest checkpoint"
)
"""What is left of a stage that was broken off, where it does not begin anew."""


def gather_and_keep(spec: Spec) -> Facts:
    """The facts, with a copy of what people said as the facts have it."""
    for _ in range(TRIES):
        facts = gather(spec)
        digests = {name: [one.digest for one in texts] for name, texts in facts.examples.items()}
        if take(spec, digests):
            return facts
    raise DataError(f"{spec.feedback}: what people say changes faster than it can be copied")


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
    if "trials" in metrics:
        yield from search_figures(metrics)
    if fell := falls_line(metrics):
        yield fell


def search_figures(metrics: Mapping[str, Any]) -> Iterator[str]:
    """What a sweep or a ladder found."""
    ends = ", ".join(f"{count} {how}" for how, count in metrics["trials"].items() if count)
    yield f"trials: {ends}"
    if best := metrics.get("best"):
        values = ", ".join(f"{path} {short(value)}" for path, value in best["point"].items())
        yield f"best: {best['metric']} {best['figure']:.4g} with {values}"
    if law := metrics.get("law"):
        yield law["text"]
