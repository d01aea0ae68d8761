"""What `plan --workers N --gpu NAME` says, in 80 columns."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.figures import counted, percent
from jobs.planned import Plan, StagePlan
from jobs.scale import (
    INGEST_CORES,
    INGEST_SPEED,
    NODE_WRITE,
    RESTART,
    Machines,
    OnPaper,
    on_paper,
)
from jobs.show_saving import brief, share
from llm.errors import SpecError
from llm.goodput import between_falls
from llm.layouts import USABLE, Proposal
from llm.metrics import duration, quantity, size_of

Rows = Iterator[tuple[str, str]]


def show_scale(plan: Plan, machines: Machines, console: Console) -> None:
    """Print one block for each pretraining; SpecError if there is none."""
    found = list(on_paper(plan, machines))
    if not found:
        raise SpecError("--workers and --gpu reckon pretrainings, and the spec has none")
    console.print(Text(heading(plan, machines), style="bold"))
    for one in found:
        console.print(Text(f"\n{one.name}", style="bold"))
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=15)
        table.add_column(overflow="fold")
        for name, value in rows(one):
            table.add_row(f"   {name}", Text(value))
        console.print(table)


def heading(plan: Plan, machines: Machines) -> str:
    """`big on paper: 1,024 h100 in 128 nodes`"""
    nodes = counted(machines.nodes, "node")
    return f"{plan.spec.name} on paper: {machines.workers:,} {machines.gpu.name} in {nodes}"


def rows(one: StagePlan | OnPaper) -> Rows:
    """All there is to say, or that it waits for another stage."""
    if isinstance(one, StagePlan):
        yield "model", f"its size is known after {one.reason.split(chr(39))[1]!r}"
        return
    best, stage = one.best, one.stage
    model = f"depth {stage.model.depth}, width {stage.model.width}, context {stage.model.context}"
    yield "model", f"{quantity(one.parameters)} parameters: {model}"
    steps = counted(stage.steps, "step")
    yield "training", f"{steps} of {best.tokens:,} tokens, {quantity(stage.tokens)} in all"
    yield "layout", layout(best)
    yield "memory", memory(best)
    if not best.fits:
        yield "error", too_large(one)
        return
    yield "step", step(best)
    yield "network", network(best)
    yield "time", f"{duration(one.training_seconds)}; with falls {duration(one.seconds)}"
    yield "cost", cost(one)
    yield from falling(one)
    yield "ingest", ingest(one)
    yield "others", others(one)
    yield "today", today(one)


def layout(one: Proposal) -> str:
    """`fsdp, 4 micro batches of 2, half of each layer computed again`"""
    again = {
        "none": "all activations kept",
        "selective": "half of each layer computed again",
        "full": "each layer computed again",
    }[one.layout.recompute]
    rounds = counted(one.layout.rounds, "micro batch")
    return f"{one.way}, {rounds} of {one.layout.micro_batch} a worker and step, {again}"


def memory(one: Proposal) -> str:
    """Of a GPU, by class."""
    parts = ", ".join(f"{name} {size_of(size)}" for name, size in one.memory.items() if size)
    return f"{size_of(one.bytes)} of {size_of(one.gpu.memory)} a GPU: {parts}"


def too_large(one: OnPaper) -> str:
    """What is tightest, and what to do."""
    best = one.best
    return (
        f"no layout fits into {USABLE:.0%} of {size_of(best.gpu.memory)}: take more workers, a GPU "
        "with more memory, a shorter context or a smaller model; layers cut in two (tensor or "
        "pipeline parallelism) are not reckoned"
    )


def step(one: Proposal) -> str:
    """Seconds by part, and the speed they come to."""
    parts = {**one.computing, "network": one.traffic.exposed}
    named = ", ".join(
        f"{name} {brief(seconds)}"
        for name, seconds in parts.items()
        if seconds > 0.005 * one.seconds
    )
    speed = f"{quantity(one.tokens_per_second)} tokens/s a GPU, mfu {one.mfu:.0%}"
    return f"{brief(one.seconds)}: {named}; {speed}"


def network(one: Proposal) -> str:
    """What is sent, and what of it computing does not hide."""
    traffic = one.traffic
    if not traffic.sent:
        return "one GPU sends nothing"
    between = ""
    if traffic.between:
        speed = f"{size_of(one.gpu.network)}/s"
        between = f", {size_of(traffic.between)} of it to other nodes at {speed}"
    hidden = (
        f"{brief(traffic.seconds)}, of which {percent(round(traffic.exposed / one.seconds, 4))}"
    )
    return f"{size_of(traffic.sent)} a GPU and step{between}: {hidden} of the step is waited for"


def cost(one: OnPaper) -> str:
    """GPU hours, and dollars if the price is told."""
    hours = f"{quantity(one.gpu_hours)} GPU hours"
    price = one.machines.price
    if not price:
        return f"{hours}; `--price` or cluster.price says what one is"
    return f"${one.gpu_hours * price:,.0f}: {hours} at ${price:g}"


def falling(one: OnPaper) -> Rows:
    """Goodput by how often GPUs fail, and what it goes by."""
    workers = one.machines.workers
    named = (
        f"{share(good)} if a GPU fails every {hours:,.0f} h (one of all, {brief(mtbf)})"
        for hours, good in one.goodputs.items()
        for mtbf in (between_falls(hours, workers),)
    )
    yield "goodput", "; ".join(named)
    costs, speed = one.costs, f"{size_of(NODE_WRITE)}/s a node"
    saves = f"a save every {brief(one.interval(one.mtbf_hours))} stalls {brief(costs.stall)}"
    yield "if", f"{saves}, takes {brief(costs.write)} ({speed}), a restart {brief(RESTART)}"


def ingest(one: OnPaper) -> str:
    """Cores that keep the stream ahead, here or there."""
    cores = one.ingest_cores
    if cores is None or one.text_speed is None:
        return "the text is tokenised beforehand (epochs); workers read numbers"
    nodes = counted(-(-cores // INGEST_CORES), "node")
    shared = counted(-(-cores // one.machines.nodes), "core")
    needed = f"{counted(cores, 'core')} at {size_of(INGEST_SPEED)}/s"
    return (
        f"{size_of(one.text_speed)}/s of text is {needed}: "
        f"{nodes} of {INGEST_CORES}, or {shared} of each GPU node"
    )


def others(one: OnPaper) -> str:
    """The best of each other way, and why it is not taken."""
    seen = {one.best.way}
    said = []
    for other in one.found:
        if other.way not in seen:
            seen.add(other.way)
            again = "" if other.layout.recompute == "none" else ", computing again"
            size = size_of(other.bytes) + again
            said.append(
                f"{other.way} {brief(other.seconds)} ({size})"
                if other.fits
                else f"{other.way} does not fit ({size})"
            )
    return "; ".join(said) or "none for one worker"


def today(one: OnPaper) -> str:
    """The fastest that a spec can ask for, as it asks for it."""
    now = one.best_today
    if now is None:
        return "no layout that a spec can ask for fits"
    asked = (
        f"cluster.strategy={now.way} cluster.workers={now.layout.workers} "
        f"cluster.gpus_per_worker=1 stages.{one.name}.micro_batch={now.layout.micro_batch}"
    )
    if now.layout.recompute == "full":
        asked += f" stages.{one.name}.recompute=layers"
    return asked if now == one.best else f"{asked} ({brief(now.seconds)} a step)"
