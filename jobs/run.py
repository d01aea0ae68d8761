"""Runs a plan: one stage after the other, each into a folder that counts only once it is whole.

A stage works inside its artifact folder and its manifest is written last; a folder without one is
unfinished, and the stage goes on in it. After every stage the plan is resolved anew, since a
tokenizer tells the vocabulary. Ray is started when the first stage needs it.
"""

import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs.facts import MANIFEST, Artifact, Facts, gather, refresh
from jobs.plan import Plan, StagePlan, resolve
from jobs.progress import Watch
from jobs.spec import PYDOC, GenerateStage, PretrainStage, Spec, TokenizerStage
from jobs.version import installed
from llm.config import DataConfig, SamplingConfig
from llm.errors import ArtifactError
from llm.files import write_atomic, write_json
from llm.metrics import duration, quantity

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """One stage to be done, and what it may use."""

    plan: Plan
    stage: StagePlan
    data: DataConfig
    console: Console

    @property
    def folder(self) -> Path:
        """The artifact's folder."""
        assert self.stage.folder is not None
        return self.stage.folder

    def parent(self, key: str) -> Path:
        """The artifact folder of the stage that `key` names."""
        return artifact_named(self.plan, self.stage, key)


def artifact_named(plan: Plan, stage: StagePlan, key: str) -> Path:
    """The folder of the stage that a stage's `key` names."""
    fingerprint = stage.parents[key]
    return next(one.folder for one in plan.stages if one.fingerprint == fingerprint and one.folder)


def run(spec: Spec) -> None:
    """Do what the spec says and is not done yet."""
    console, began = Console(), time.time()
    facts = gather(spec)
    write_atomic(spec.folder / "spec.yaml", Path(spec.origin.file).read_bytes())
    names = [stage.name for stage in resolve(spec, facts).stages]
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


def perform(plan: Plan, stage: StagePlan, console: Console, stack: ExitStack) -> None:
    """Do one stage and commit its artifact."""
    began = time.time()
    work = Work(plan, stage, plan.spec.data, console)
    work.folder.mkdir(parents=True, exist_ok=True)
    if needs_ray(stage):
        start_ray(plan, console, stack)
        work = replace(work, data=with_pydoc_written(plan.spec, console))
    metrics = PERFORM[stage.kind](work)
    seconds = round(time.time() - began, 1)
    write_json(
        work.folder / MANIFEST,
        {**stage.manifest, "metrics": metrics, "seconds": seconds, "code": code(), "at": began},
    )
    console.print(f"done in {duration(seconds)}: {work.folder}", highlight=False, soft_wrap=True)


def needs_ray(stage: StagePlan) -> bool:
    """Whether a stage works on the cluster; taking over a tokenizer or a few samples does not."""
    if isinstance(stage.stage, TokenizerStage):
        return stage.stage.file is None
    return isinstance(stage.stage, PretrainStage)


def start_ray(plan: Plan, console: Console, stack: ExitStack) -> None:
    """Connect to Ray, until `stack` is closed."""
    from cluster.session import is_connected, session

    if not is_connected():
        with console.status("starting Ray"):
            stack.enter_context(session(plan.cluster))


def with_pydoc_written(spec: Spec, console: Console) -> DataConfig:
    """The data with pydoc:// replaced by shards; they are written when they are first needed."""
    if spec.data.shards != (PYDOC,):
        return spec.data
    from llm.pydoc_source import pydoc_digest, write_pydoc

    folder = Path(spec.storage) / f"pydoc-{pydoc_digest()[:12]}"
    if not (folder / MANIFEST).exists():
        with console.status("reading Python's documentation"):
            paths = write_pydoc(folder)
            write_json(folder / MANIFEST, {"files": [path.name for path in paths]})
    return replace(spec.data, shards=(str(folder / "*.parquet"),))


# -- one function per kind of stage ------------------------------------------------------------


def make_tokenizer(work: Work) -> Metrics:
    """Train a tokenizer on a sample, or take one over."""
    stage = work.stage.stage
    assert isinstance(stage, TokenizerStage)
    path = work.folder / "tokenizer.model"
    if stage.file is not None:
        from llm.tokenizer import Tokenizer

        write_atomic(path, Path(stage.file).read_bytes())
        return {"vocab_size": Tokenizer(path).vocab_size}
    from cluster.tokenizer import train_tokenizer

    with work.console.status("drawing a sample and training on it"):
        report = train_tokenizer(work.data, stage, work.stage.seed, path)
    work.console.print(
        f"{report.vocab_size} tokens, {report.bytes_per_token:.2f} bytes each on average, "
        f"{report.coverage:.2%} of characters covered ({report.measured_on} text)",
        highlight=False,
        soft_wrap=True,
    )
    return dict(vars(report))


def pretrain(work: Work) -> Metrics:
    """Train a model on the cluster."""
    from cluster.train import pretrain as pretrain_on_cluster
    from llm.task import PretrainTask

    stage = work.stage.stage
    assert isinstance(stage, PretrainStage)
    task = PretrainTask(
        folder=str(work.folder),
        tokenizer=str(work.parent("tokenizer") / "tokenizer.model"),
        data=work.data,
        model=stage.model,
        train=stage.train,
        prompt=stage.prompt,
        seed=work.stage.seed,
    )
    write_json(work.folder / "task.json", task.to_json())
    with Watch(work.console) as watch:
        return pretrain_on_cluster(task, work.plan.cluster, watch)


def generate_samples(work: Work) -> Metrics:
    """Continue the stage's prompts and keep the texts in samples.jsonl."""
    stage = work.stage.stage
    assert isinstance(stage, GenerateStage)
    model = work.parent("from")
    texts = [write_text(model, None, one, stage.sampling, work.console) for one in stage.prompts]
    lines = [
        json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False) + "\n"
        for prompt, text in zip(stage.prompts, texts, strict=True)
    ]
    write_atomic(work.folder / "samples.jsonl", "".join(lines))
    return {"samples": len(texts)}


PERFORM = {"tokenizer": make_tokenizer, "pretrain": pretrain, "generate": generate_samples}


# -- text out ----------------------------------------------------------------------------------


def generate(spec: Spec, prompt: str | None, stage: str | None) -> None:
    """Continue a prompt with the newest model of the spec, as it is written."""
    console = Console()
    facts = gather(spec)
    plan = resolve(spec, facts)
    folder, weights, sampling = choose_model(plan, facts, stage, console)
    write_text(folder, weights, "" if prompt is None else prompt, sampling, console)


def choose_model(
    plan: Plan, facts: Facts, name: str | None, console: Console
) -> tuple[Path, Path | None, SamplingConfig]:
    """Folder, weights (None: the finished ones) and sampling to write with."""
    writer = next((s for s in plan.stages if s.kind == "generate" and name in (None, s.name)), None)
    sampling = SamplingConfig()
    if writer is not None:
        written = plan.spec.stages[writer.name]
        assert isinstance(written, GenerateStage)
        name, sampling = written.from_, written.sampling
    stage = next((s for s in plan.stages if s.kind == "pretrain" and name in (None, s.name)), None)
    if stage is None:
        models = [s.name for s in plan.stages if s.kind in ("pretrain", "generate")]
        raise ArtifactError(
            f"{plan.spec.origin.file}: no stage {name!r} that writes; there are {models}"
        )
    folder, weights = model_of(plan, stage, facts)
    if weights is not None:
        console.print(f"(unfinished: the model of {weights.parent.name})", style="dim")
    return folder, weights, sampling


def model_of(plan: Plan, stage: StagePlan, facts: Facts) -> tuple[Path, Path | None]:
    """Where a stage's model is, and a checkpoint's weights if it is not finished."""
    found = stage.fingerprint and facts.artifact(stage.name, stage.fingerprint)
    if isinstance(found, Artifact) and found.manifest is not None:
        return found.folder, None
    if isinstance(found, Artifact):
        from llm.checkpoint import newest

        checkpoint = newest(found.folder / "checkpoints")
        if checkpoint is not None:
            return found.folder, checkpoint / "model.safetensors"
    raise ArtifactError(
        f"{plan.spec.origin.file}: stage '{stage.name}' has no model yet; first run\n"
        f"{plan.spec.command('run')}"
    )


def write_text(
    folder: Path, weights: Path | None, prompt: str, sampling: SamplingConfig, console: Console
) -> str:
    """Print a prompt and what the model adds to it, piece by piece; returns what it added."""
    from llm.artifact import read_model
    from llm.generate import write

    model, tokenizer = read_model(folder, weights)
    console.out(prompt, end="", style="bold", highlight=False)
    pieces: list[str] = []
    for piece in write(model, tokenizer, prompt, sampling):
        console.out(piece, end="", highlight=False)
        pieces.append(piece)
    console.out("\n")
    return "".join(pieces)


# -- the end -----------------------------------------------------------------------------------


def finish(plan: Plan, console: Console, seconds: float) -> None:
    """Say what there is now and what to do with it."""
    console.rule(align="left")
    for stage in plan.stages:
        console.print(f"{stage.name:12} {stage.folder}", highlight=False, soft_wrap=True)
        for line in figures(stage.metrics):
            console.print(f"{'':12} {line}", highlight=False)
    console.print(f"finished in {duration(seconds)}; next:", highlight=False)
    command = f"  {plan.spec.command('generate')} --prompt TEXT"
    console.print(command, highlight=False, soft_wrap=True)


def figures(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The figures of a training in words."""
    if "bpb" in metrics:
        yield f"{metrics['bpb']:.3f} bits per byte of held-out text"
    if "tokens_per_second" in metrics:
        rate, waited = metrics["tokens_per_second"], metrics["data_wait"]
        yield f"{quantity(rate)} tokens/s, {waited:.1%} of the time waiting for data"


def code() -> dict[str, str]:
    """What made an artifact."""
    packages = ("humpty", "torch", "ray", "sentencepiece")
    return {"python": platform.python_version(), **{name: installed(name) for name in packages}}
