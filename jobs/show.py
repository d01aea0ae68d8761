"""The plan for people: one block a stage, in 80 columns, with colours only on a terminal."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.figures import counted
from jobs.graph import tokens_of
from jobs.planned import Plan, StagePlan
from jobs.scale import bytes_per_token
from jobs.show_align import aligned_rows
from jobs.show_corpus import corpus_rows
from jobs.show_evaluate import evaluate_rows
from jobs.show_saving import saving_rows
from jobs.show_search import search_rows
from jobs.show_serve import serve_rows
from jobs.stages import (
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
    SweepStage,
    TokenizerStage,
    TokensStage,
)
from llm.config import ModelConfig
from llm.metrics import duration, quantity, size_of
from llm.size import active_parameters

Rows = Iterator[tuple[str, str]]


def show(plan: Plan, console: Console) -> None:
    """Print the plan and the command that comes next."""
    say(console, heading(plan), style="bold")
    for number, stage in enumerate(plan.stages, start=1):
        show_stage(number, stage, plan, console)
    say(console, "")
    say(console, next_step(plan))


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line as it is: no markup, no guessed colours."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def heading(plan: Plan) -> str:
    """What is planned, on what machines."""
    workers = counted(plan.cluster.most_workers, "worker")
    cores = counted(plan.cluster.cpus_per_worker, "core")
    gpus = f" and {plan.cluster.gpus_per_worker:g} GPU" if plan.cluster.gpus_per_worker else ""
    return f"{plan.spec.name}: seed {plan.spec.seed}, {workers} with {cores}{gpus} each"


def show_stage(number: int, stage: StagePlan, plan: Plan, console: Console) -> None:
    """A heading and a table of what the stage is and costs."""
    style = "yellow" if stage.status == "will run" else "green"
    title = Text.assemble(
        "\n", (f"{number}  {stage.name}", "bold"), "  ", (stage.status, style), f": {stage.reason}"
    )
    console.print(title)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=15)
    table.add_column(overflow="fold")
    for name, value in rows(stage, plan):
        table.add_row(f"   {name}", Text(value))
    console.print(table)


def rows(stage: StagePlan, plan: Plan) -> Rows:
    """What there is to say about a stage."""
    match stage.stage or stage.written:
        case CorpusStage() as corpus:
            yield from corpus_rows(corpus, stage.source_bytes, stage.metrics)
        case TokenizerStage() as tokenizer:
            yield from tokenizer_rows(tokenizer, stage)
        case TokensStage():
            yield from tokens_rows(stage, plan)
        case PretrainStage() as pretrain if stage.estimate:
            yield from pretrain_rows(pretrain, stage, plan)
        case PretrainStage() as pretrain:
            waiting = stage.reason.split("'")[1]
            counted_there = waiting == tokens_of(pretrain)
            key, known = ("training", "length") if counted_there else ("model", "size")
            yield key, f"its {known} is known after '{waiting}'"
        case SftStage() | RewardStage() | DpoStage() | PpoStage() as aligned:
            yield from aligned_rows(aligned, stage, plan)
        case GenerateStage() as generate:
            yield "prompts", counted(len(generate.prompts), "text")
            yield "sampling", sampling(generate)
        case EvaluateStage() as evaluation:
            yield from evaluate_rows(evaluation, stage)
        case ServeStage() as serve:
            yield from serve_rows(serve, [plan.by_name[name] for name in serve.models])
        case ImportStage() as imported:
            yield "model", f"{shape(stage.model)}" if stage.model else "known once it is read"
            yield "read from", near(Path(imported.folder))
        case ExportStage() as export:
            yield "written as", f"{export.format}, {export.dtype}"
        case SweepStage() | ScalingStage() as search:
            yield from search_rows(search, stage, plan)
    if stage.saving:
        yield from saving_rows(stage.saving, plan.cluster.mtbf_hours)
    if stage.folder:
        yield "folder", near(stage.folder)


def tokenizer_rows(tokenizer: TokenizerStage, stage: StagePlan) -> Rows:
    """A file, or what is trained from how much text."""
    if tokenizer.file:
        yield "file", near(Path(tokenizer.file))
        return
    size = f"{stage.vocab_size:,} tokens" if stage.vocab_size else "as many tokens as occur"
    fallback = ", bytes for what is unknown" if tokenizer.byte_fallback is True else ""
    yield "vocabulary", f"{tokenizer.model}, {size}{fallback}"
    sample = min(stage.text_bytes, tokenizer.sample_bytes)
    yield "sample", f"{size_of(sample)} of {size_of(stage.text_bytes)}"


def tokens_rows(stage: StagePlan, plan: Plan) -> Rows:
    """Whose tokens these are, and how many."""
    readers = [one.name for one in plan.stages if tokens_of(one.written) == stage.name]
    yield "text", f"{size_of(stage.text_bytes)}, tokenised once for {', '.join(readers)}"
    if "tokens" in stage.metrics:
        yield "result", f"{quantity(stage.metrics['tokens'])} tokens"


def pretrain_rows(pretrain: PretrainStage, stage: StagePlan, plan: Plan) -> Rows:
    """Model, training and costs."""
    cost = stage.estimate
    assert cost is not None
    yield "model", shape(pretrain.model)
    yield "parameters", f"{sum(cost.parameters.values()):,} = {listed(cost.parameters)}"
    if pretrain.model.experts:
        assert stage.vocab_size is not None
        yield "active", f"{active_parameters(pretrain.model, stage.vocab_size):,} for each token"
    yield "training", training(pretrain, plan.cluster.most_workers)
    yield "text", f"{passes(pretrain, stage, plan)} over the training text"
    yield "optimizer", optimizer(pretrain)
    yield "compute", f"{quantity(cost.flops)} FLOPs, {duration(cost.seconds)} {cost.speed}"
    total = size_of(sum(cost.bytes_per_worker.values()))
    needed = {part: size for part, size in cost.bytes_per_worker.items() if size}
    parts = ", ".join(f"{part} {size_of(size)}" for part, size in needed.items())
    yield "memory", f"{total} per worker: {parts}"


def shape(model: ModelConfig) -> str:
    """The model's dimensions."""
    sizes = ["depth", "width", "heads", "hidden", "context"]
    sizes += ["kv_heads"] if model.kv_heads != model.heads else []
    sizes += [name for name in ("window", "code", "experts") if getattr(model, name)]
    alone = ", documents apart" if model.attend == "document" else ""
    told = [f"{name} {getattr(model, name)}" for name in sizes]
    if model.family != "decoder":
        told.insert(0, model.family.replace("_", "-"))
    return ", ".join(told) + alone


def listed(parts: Mapping[str, int]) -> str:
    """1,048,576 token embedding + 2,304 norms"""
    return " + ".join(f"{count:,} {part}" for part, count in parts.items() if count)


def training(pretrain: PretrainStage, workers: int) -> str:
    """How long, in what portions."""
    tokens = quantity(pretrain.tokens)
    rounds = pretrain.batch // pretrain.micro_batch
    text = f"{counted(pretrain.steps, 'step')} of {counted(pretrain.batch, 'sequence')}"
    micro = counted(rounds, "micro batch")
    dealt = f" dealt to {workers} workers" if workers > 1 else ""
    short = f"; {pretrain.short_start} with shorter rows first" if pretrain.short_start else ""
    return f"{text} = {tokens} tokens; a step is {micro} of {pretrain.micro_batch}{dealt}{short}"


def passes(pretrain: PretrainStage, stage: StagePlan, plan: Plan) -> str:
    """How often training goes through the text."""
    if pretrain.epochs is not None:
        return counted(pretrain.epochs, "pass")
    per_token = bytes_per_token(pretrain, plan)
    text_bytes = stage.text_bytes * (1 - stage.data.get("fraction", 0))
    return f"about {quantity(pretrain.tokens * per_token / max(1, text_bytes))} passes"


def optimizer(pretrain: PretrainStage) -> str:
    """The schedule of the learning rate."""
    optim = pretrain.optim
    return f"learning rate {optim.lr:g}, {optim.schedule}, {counted(optim.warmup, 'step')} warm-up"


def sampling(generate: GenerateStage) -> str:
    """How tokens are chosen."""
    config = generate.sampling
    how = "always the most probable token"
    if config.temperature:
        limits = {"top_k": config.top_k, "top_p": config.top_p % 1, "min_p": config.min_p}
        chosen = [f"{name} {value:g}" for name, value in limits.items() if value]
        how = ", ".join([f"temperature {config.temperature:g}", *chosen])
    return f"{how}, {config.max_tokens} tokens at most"


def near(path: Path) -> str:
    """A path, from the current folder if it lies in it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def next_step(plan: Plan) -> str:
    """The command to go on with."""
    done = "All stages are done. " if plan.next is None else ""
    return f"{done}Next: {plan.next_command}" if plan.next_command else done.rstrip()
