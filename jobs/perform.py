"""The work of each kind of stage: one function that fills a folder and returns its figures.

A function takes a `Work`, writes into `work.folder`, and can go on in a folder that an earlier
attempt left. What identifies the artifact is written by `jobs.run`, after it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.graph import tokens_of
from jobs.inputs import validation_tokens, weights_of
from jobs.kinds import as_json
from jobs.perform_align import align, ppo, report
from jobs.perform_evaluate import evaluate
from jobs.planned import Plan
from jobs.progress import telling
from jobs.report_read import EVALUATION, listed, mapping, read_json
from jobs.stages import (
    CorpusStage,
    ExportStage,
    GenerateStage,
    ImportStage,
    PretrainStage,
    TokenizerStage,
)
from jobs.watching import watching
from jobs.work import Work, with_pydoc_written
from jobs.write import write_text
from llm.config import DataConfig, ValidationConfig
from llm.errors import ArtifactError, DataError
from llm.files import write_atomic, write_json
from llm.metrics import quantity, size_of
from llm.model_card import Step

Metrics = dict[str, Any]


# -- text ------------------------------------------------------------------------------------------


def text_of(work: Work) -> DataConfig:
    """The text that a stage reads: a corpus' shards, or that of `data`."""
    if "corpus" in work.stage.parents:
        return text_of_corpus(work.parent("corpus"), validation_tokens(work.plan.spec))
    data = work.plan.spec.data
    assert data is not None
    return replace(data, shards=with_pydoc_written(data.shards, work))


def text_of_corpus(folder: Path, validation_tokens: int) -> DataConfig:
    """The shards of a finished corpus; what it holds out measures the model."""
    sources = read_corpus(folder)["sources"].values()
    held_out = any(source["validation"]["documents"] for source in sources)
    return DataConfig(
        shards=(str(folder / "train"),),
        format="parquet",
        validation=ValidationConfig(
            fraction=0.0,
            shards=(str(folder / "validation"),) if held_out else (),
            tokens=validation_tokens,
        ),
    )


def read_corpus(folder: Path) -> dict[str, Any]:
    """corpus.json: how much there is of each source, and which shards hold it."""
    path = folder / "corpus.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        remedy = "remove its folder to make the corpus again"
        raise ArtifactError(f"{path}: cannot be read ({error}); {remedy}") from error


# -- one function per kind of stage ----------------------------------------------------------------


def make_corpus(work: Work) -> Metrics:
    """Clean, filter, deduplicate and mix documents."""
    from cluster.corpus import make_corpus as make_corpus_on_cluster

    stage = work.stage.stage
    assert isinstance(stage, CorpusStage)
    sources = {
        name: replace(source, shards=with_pydoc_written(source.shards, work))
        for name, source in stage.sources.items()
    }
    config = replace(stage.config, sources=sources)
    with telling(work.console, "listing the files") as say:
        metrics = make_corpus_on_cluster(config, work.folder, work.stage.seed, say)
    made = read_corpus(work.folder)["sources"]
    train = {name: source["train"] for name, source in made.items()}
    work.say(kept(metrics))
    work.say(f"with examples: {work.folder / 'report.html'}")
    return {
        **metrics,
        "train_documents": sum(source["documents"] for source in train.values()),
        "train_bytes": sum(source["bytes"] for source in train.values()),
    }


def kept(metrics: Metrics) -> str:
    """`kept 90 of 100 documents; dropped 7 by exact duplicate, 3 by language`"""
    reasons = ", ".join(f"{count:,} by {reason}" for reason, count in metrics["dropped"].items())
    dropped = f"; dropped {reasons}" if reasons else ""
    return f"kept {metrics['kept']:,} of {metrics['documents']:,} documents{dropped}"


def make_tokenizer(work: Work) -> Metrics:
    """Train a tokenizer on a sample, or take one over."""
    stage = work.stage.stage
    assert isinstance(stage, TokenizerStage)
    if stage.file is not None:
        from llm.tokenizer_file import read_tokenizer, take_over

        taken = take_over(Path(stage.file), work.folder, turns=False)
        return {"vocab_size": read_tokenizer(taken).vocab_size}
    from cluster.tokenizer import train_tokenizer

    doing = "drawing a sample and training on it"
    with telling(work.console, doing) as say:
        say(doing)
        path = work.folder / "tokenizer.model"
        report = train_tokenizer(text_of(work), stage, work.stage.seed, path)
    work.say(
        f"{report.vocab_size} tokens, {report.bytes_per_token:.2f} bytes each on average, "
        f"{report.coverage:.2%} of characters covered ({report.measured_on} text)"
    )
    return dict(vars(report))


def make_tokens(work: Work) -> Metrics:
    """Tokenise a text once, for all trainings on it."""
    from cluster.tokens import make_tokens as make_tokens_on_cluster

    with telling(work.console, "tokenising the text") as say:
        metrics = make_tokens_on_cluster(text_of(work), work.tokenizer, work.folder, say)
    work.say(f"{quantity(metrics['tokens'])} tokens in {metrics['documents']:,} documents")
    return metrics


def pretrain(work: Work) -> Metrics:
    """Train a model on the cluster."""
    from cluster.train import pretrain as pretrain_on_cluster
    from llm.task import PretrainTask

    stage = work.stage.stage
    assert isinstance(stage, PretrainStage)
    tokens = tokens_of(stage)
    task = PretrainTask(
        folder=str(work.folder),
        tokenizer=str(work.tokenizer),
        data=text_of(work),
        model=stage.model,
        train=stage.train,
        prompt=stage.prompt,
        seed=work.stage.seed,
        objective=stage.objective,
        weights=weights_in(work, stage),
        tokens=str(work.plan.by_name[tokens].folder) if tokens else "",
        start=str(work.parent("from")) if stage.from_ else "",
    )
    write_json(work.folder / "task.json", task.to_json())
    with watching(work) as watch:
        metrics = pretrain_on_cluster(task, work.plan.cluster, watch, work.fence)
    report(work)
    return metrics


def weights_in(work: Work, stage: PretrainStage) -> dict[str, float]:
    """How sources are mixed; DataError if one of them turned out to hold nothing."""
    weights = weights_of(stage, work.plan.spec)
    made = read_corpus(work.parent("corpus"))["sources"] if weights else {}
    for name, weight in weights.items():
        if not made[name]["train"]["documents"]:
            raise DataError(
                f"stages.{stage.corpus}.sources.{name}: no document of it is left to train on, yet "
                f"its weight is {weight:g}; {work.parent('corpus') / 'report.html'} says why; "
                "loosen the rules, or leave the source out"
            )
    return weights


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


def take_model_over(work: Work) -> Metrics:
    """Make a model of transformers an artifact."""
    from llm.hf_import import import_model

    stage = work.stage.stage
    assert isinstance(stage, ImportStage)
    with work.console.status("reading the weights"):
        metrics = import_model(Path(stage.folder), work.folder, stage.context)
    work.say(
        f"{metrics['architecture']}, {quantity(metrics['parameters'])} parameters, "
        f"{metrics['vocab_size']:,} tokens"
    )
    return metrics


def write_model_out(work: Work) -> Metrics:
    """Write a model in a form that others read."""
    stage = work.stage.stage
    assert isinstance(stage, ExportStage)
    with work.console.status("writing the weights"):
        metrics = exporter(stage.format)(
            work.parent("from"), work.folder, stage.config, lineage(work)
        )
    how, size = f"{metrics['architecture']} in {metrics['dtype']}", size_of(metrics["bytes"])
    work.say(f"{how}, {size} of weights, for whoever reads {stage.format}")
    if differs := metrics.get("differs"):
        work.say(differs)
    return metrics


def exporter(format: str) -> Callable[..., Metrics]:
    """Who writes a format."""
    if format == "gguf":
        from llm.gguf_export import export_gguf

        return export_gguf
    from llm.hf_export import export_model

    return export_model


def lineage(work: Work) -> list[Step]:
    """The stages that a model was made by, the first of them first."""
    wanted, found = set(work.stage.parents.values()), []
    for one in reversed(work.plan.stages):
        if one.fingerprint and one.identity in wanted:
            wanted |= set(one.parents.values())
            spec = as_json(one.stage or one.written)
            rows = results_of(work.plan, one.name)
            found.append(Step(one.name, one.kind, one.identity, spec, one.metrics, one.data, rows))
    return found[::-1]


def results_of(plan: Plan, model: str) -> list[Mapping[str, Any]]:
    """What finished stages of the run have measured of a model."""
    made = [one.folder for one in plan.stages if one.folder and one.status == "cached"]
    read = [mapping(read_json(folder / EVALUATION, [])) for folder in made]
    return [row for one in read for row in listed(one.get("rows")) if row.get("model") == model]


def make_sweep(work: Work) -> Metrics:
    """Find the values with which stages do best."""
    from jobs.perform_sweep import make_sweep as make

    return make(work)


def make_scaling(work: Work) -> Metrics:
    """Find the law by which losses fall."""
    from jobs.perform_sweep import make_scaling as make

    return make(work)


PERFORM: Mapping[str, Callable[[Work], Metrics]] = {
    "corpus": make_corpus,
    "tokenizer": make_tokenizer,
    "tokens": make_tokens,
    "pretrain": pretrain,
    "sft": align,
    "reward": align,
    "dpo": align,
    "ppo": ppo,
    "generate": generate_samples,
    "evaluate": evaluate,
    "import": take_model_over,
    "export": write_model_out,
    "sweep": make_sweep,
    "scaling": make_scaling,
}
