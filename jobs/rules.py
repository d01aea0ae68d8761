"""What must hold between fields: pure checks of a spec, each yielding (path, message).

A field may still be `auto`; a check that needs it then waits until the plan has resolved it, when
the same checks run again on plain numbers.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from graphlib import CycleError

from jobs.align_rules import of_examples
from jobs.cluster_rules import of_cluster
from jobs.continued_rules import of_continued
from jobs.corpus_rules import of_corpus, of_shards, of_text
from jobs.evaluate_rules import of_evaluation, of_lineage
from jobs.family_rules import of_families, of_family
from jobs.graph import DATA, order
from jobs.kinds import (
    REFERENCES,
    kind_made,
    reads_data,
    references,
)
from jobs.kubernetes_rules import of_kubernetes
from jobs.model_rules import of_model
from jobs.optim_rules import of_optim
from jobs.serve_rules import of_serving
from jobs.shape import did_you_mean, nearest
from jobs.spec import SpecFile
from jobs.stages import (
    AnyStage,
    CorpusStage,
    DpoStage,
    EvaluateStage,
    ExportStage,
    GenerateStage,
    ImportStage,
    PpoStage,
    PretrainStage,
    RewardStage,
    ScalingStage,
    ServeStage,
    SftStage,
    Stage,
    SweepStage,
    TokenizerStage,
    TokensStage,
)
from jobs.yaml_source import Keys
from llm.config import DataConfig, LoopConfig, auto

Findings = Iterator[tuple[Keys, str]]

RESERVED_TOKENS = 8
BYTE_TOKENS = 256

RUN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
STAGE_NAME = re.compile(r"[A-Za-z0-9_-]+")  # no dot: it separates keys in `stages.a.lr=1e-3`


def of_spec(spec: SpecFile) -> Findings:
    """Everything that can be said before the plan."""
    yield from of_names(spec)
    yield from of_references(spec.stages)
    yield from of_circles(spec.stages)
    yield from of_needed_text(spec)
    if spec.data is not None:
        yield from of_data(spec.data)
    yield from of_epochs(spec.stages)
    yield from of_families(spec.stages)
    yield from of_continued(spec.stages)
    yield from of_lineage(spec.stages)
    yield from of_cluster(spec)
    yield from of_kubernetes(spec)
    for name, stage in spec.stages.items():
        for keys, message in of_stage(stage, spec.cluster.most_workers):
            yield ("stages", name, *keys), message
        if isinstance(stage, LoopConfig):
            for keys, message in of_optim(stage, spec.cluster.strategy):
                yield ("stages", name, *keys), message


def of_names(spec: SpecFile) -> Findings:
    """Names become folders, on every system and in object stores."""
    if not RUN_NAME.fullmatch(spec.name):
        yield ("name",), f"{spec.name!r} is not allowed; use letters, digits and ._-"
    if "://" in spec.storage:
        yield (
            ("storage",),
            f"{spec.storage!r}: storage must be a folder that every worker can reach",
        )
    for name in spec.stages:
        if not STAGE_NAME.fullmatch(name):
            yield ("stages", name), "a stage's name is made of letters, digits, _ and -"
        if name == DATA and isinstance(spec.stages[name], CorpusStage):
            yield ("stages", name), f"{DATA!r} is the text of the file; call the corpus otherwise"


def of_circles(stages: dict[str, Stage]) -> Findings:
    """No stage builds on itself, by way of others of its kind."""
    try:
        order(stages)
    except CycleError as error:
        circle: list[str] = error.args[1]  # each is needed by the one behind it
        name, target = circle[1], circle[0]
        key = next(key for key, one in references(stages[name]).items() if one == target)
        way = " <- ".join(repr(one) for one in circle)
        message = f"{target!r} builds on {name!r} itself ({way}); let one of them begin elsewhere"
        yield ("stages", name, *key.split(".")), message


def of_references(stages: dict[str, Stage]) -> Findings:
    """Who names whom, and of what kinds those are."""
    for name, stage in stages.items():
        for key, target in references(stage).items():
            first, *number = key.split(".")
            kinds = REFERENCES[stage.kind][first]
            found = stages.get(target)
            if found is None or kind_made(target, stages) not in kinds:
                fitting = [other for other in stages if kind_made(other, stages) in kinds]
                fact = f"is {described(found, stages)}" if found else "is not a stage of this file"
                need = f"must be a {either(kinds)} stage: {', '.join(fitting) or 'none yet'}"
                meant = did_you_mean(nearest(target, fitting))
                keys: Keys = ("stages", name, first, *map(int, number))
                yield keys, f"{target!r} {fact};{meant} {need}"


def described(stage: Stage, stages: Mapping[str, Stage]) -> str:
    """`a pretrain stage`, `a sweep of a reward stage`"""
    if isinstance(stage, SweepStage) and stage.of[-1] in stages:
        return f"a sweep of a {stages[stage.of[-1]].kind} stage"
    return f"{'an' if stage.kind in ('import', 'export') else 'a'} {stage.kind} stage"


def either(names: tuple[str, ...]) -> str:
    """`a`, `a or b`, `a, b or c`"""
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def of_data(data: DataConfig) -> Findings:
    """Where held-out text comes from."""
    held_out = data.validation
    if held_out.shards and held_out.fraction:
        message = f"{held_out.fraction} is not allowed together with shards; leave one of them out"
        yield ("data", "validation", "fraction"), message
    for keys, message in of_text(data):
        yield ("data", *keys), message
    for keys, message in of_shards(held_out.shards):
        yield ("data", "validation", *keys), message


def of_needed_text(spec: SpecFile) -> Findings:
    """Whoever reads text has some."""
    corpora = [name for name, stage in spec.stages.items() if isinstance(stage, CorpusStage)]
    choice = f"corpus: {' or '.join(corpora)}" if corpora else "corpus: NAME of a corpus stage"
    for name, stage in spec.stages.items():
        if spec.data is None and reads_data(stage):
            message = f"missing: the text; add `{choice}` here, or `data:` at the top level"
            yield ("stages", name, "corpus"), message


def of_epochs(stages: Mapping[str, Stage]) -> Findings:
    """Passes over a text are a length of their own, counted beforehand."""
    for name, stage in stages.items():
        if not isinstance(stage, PretrainStage) or stage.epochs is None:
            continue
        keys = ("stages", name)
        for other in ("tokens", "steps"):
            if getattr(stage, other) != auto:
                yield (*keys, other), "has no place beside epochs; leave one of them out"
        if stage.cache is False:
            yield (*keys, "cache"), "false is not allowed: epochs are counted there; leave it out"
        corpus = stages.get(stage.corpus or "")
        if isinstance(corpus, CorpusStage) and corpus.weights:
            message = (
                f"{stage.epochs} is not allowed: the sources of '{stage.corpus}' have weights, so "
                "they end at different times; say tokens or steps"
            )
            yield (*keys, "epochs"), message


def of_stage(stage: AnyStage, workers: int) -> Findings:
    """What must hold inside one stage; paths start below it."""
    match stage:
        case CorpusStage():
            yield from of_corpus(stage)
        case TokenizerStage():
            yield from of_tokenizer(stage)
        case PretrainStage():
            yield from of_model(stage.model)
            yield from of_family(stage)
            yield from of_batch(stage, stage.batch, workers)
            yield from of_length(stage)
        case SftStage() | RewardStage() | DpoStage():
            yield from of_examples(stage)
            yield from of_batch(stage, stage.batch, workers)
        case PpoStage():
            yield from of_examples(stage)
            yield from of_batch(stage, stage.minibatch, workers)
        case ServeStage():
            yield from of_serving(stage)
        case EvaluateStage():
            yield from of_evaluation(stage)
        case (
            ImportStage()
            | ExportStage()
            | GenerateStage()
            | TokensStage()
            | SweepStage()
            | ScalingStage()
        ):
            return


def of_tokenizer(config: TokenizerStage) -> Findings:
    """A vocabulary holds the reserved tokens and the bytes; a foreign file decides all."""
    if config.file is not None:
        for one in fields(config):
            default = getattr(config, one.name) == one.default
            if one.name not in ("file", "kind") and not default:
                yield (one.name,), "has no effect together with file; leave one of them out"
        return
    bytes_too = config.byte_fallback is True or (
        config.byte_fallback == auto and config.model in ("unigram", "bpe")
    )
    least = RESERVED_TOKENS + (BYTE_TOKENS if bytes_too else 0)
    if config.vocab_size != auto and config.vocab_size <= least:
        parts = f"{RESERVED_TOKENS} reserved tokens" + (
            f" and {BYTE_TOKENS} bytes" if bytes_too else ""
        )
        yield (
            ("vocab_size",),
            f"{config.vocab_size} is not allowed; must be greater than {least}: {parts}",
        )


def of_batch(stage: LoopConfig, batch: int, workers: int) -> Findings:
    """Every worker gets at least one micro batch of every update's batch."""
    micro = stage.micro_batch
    if batch == auto:
        return
    if batch < workers:
        message = (
            f"{batch} is not allowed; must be at least {workers}, one sequence for each worker"
        )
        yield ("batch",), message
    elif micro != auto and batch % micro:
        yield ("micro_batch",), f"{micro} is not allowed; must divide the batch of {batch}"
    elif micro != auto and batch // micro < workers:
        most = max(n for n in range(1, batch + 1) if batch % n == 0 and batch // n >= workers)
        message = (
            f"{micro} is not allowed; must be at most {most}, or some of {workers} workers idle"
        )
        yield ("micro_batch",), message


def of_length(stage: PretrainStage) -> Findings:
    """Steps, tokens, warm-up and decay fit into each other."""
    steps, optim = stage.steps, stage.optim
    yield from of_short_start(stage)
    if auto not in (stage.tokens, steps, stage.batch):
        made = steps * stage.batch * stage.model.context
        if made != stage.tokens:
            sizes = f"steps {steps} x batch {stage.batch} x context {stage.model.context}"
            message = f"{stage.tokens} contradicts {sizes} = {made}; leave tokens or steps out"
            yield ("tokens",), message
    if auto in (steps, optim.warmup):
        return
    if optim.warmup >= steps:
        yield ("optim", "warmup"), f"{optim.warmup} is not allowed; must be less than steps {steps}"
    elif optim.schedule == "wsd" and optim.warmup + optim.decay * steps > steps:
        most = 1 - optim.warmup / steps
        message = f"{optim.decay} is not allowed; with this warmup must be at most {most:.3g}"
        yield ("optim", "decay"), message


def of_short_start(stage: PretrainStage) -> Findings:
    """Rows are cut into eighths first; some steps are left for whole ones."""
    short, context = stage.short_start, stage.model.context
    if short and context % 8:
        message = f"{short} is not allowed; context {context} must divide by 8 to cut rows short"
        yield ("short_start",), message
    elif short and stage.steps != auto and short >= stage.steps:
        yield ("short_start",), f"{short} is not allowed; must be less than steps {stage.steps}"
