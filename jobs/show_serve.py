"""A serve stage in the plan: what is served, where, by how many."""

from collections.abc import Iterator, Sequence

from jobs.figures import counted
from jobs.planned import StagePlan
from jobs.stages import ServeStage
from llm.config import auto
from llm.metrics import size_of
from llm.writer_memory import serving_bytes

Rows = Iterator[tuple[str, str]]


def serve_rows(serve: ServeStage, stages: Sequence[StagePlan]) -> Rows:
    """What there is to say about a serve stage, which serves the models of others."""
    yield "models", ", ".join(serve.models)
    yield "address", f"http://{serve.host}:{serve.port or '(a free port)'}, {access(serve)}"
    yield "replicas", replicas(serve)
    if serve.engine.tokens != auto:
        memory = f"remembers {serve.engine.tokens:,} tokens"
        yield "engine", f"{counted(serve.engine.slots, 'slot')} each, {memory}"
        yield from memory_rows(serve, stages)


def memory_rows(serve: ServeStage, stages: Sequence[StagePlan]) -> Rows:
    """What a replica holds when it holds the largest models that it may hold at once."""
    assert serve.engine.tokens != auto
    precision = "bf16" if serve.engine.precision == "auto" else serve.engine.precision
    found = [
        serving_bytes(stage.model, stage.vocab_size, serve.engine.tokens, precision)
        for stage in stages
        if stage.model is not None and stage.vocab_size
    ]
    if len(found) < len(stages):
        return
    held = sorted(found, key=lambda parts: -sum(parts.values()))[: serve.resident]
    parts = {name: sum(each[name] for each in held) for name in held[0]}
    listed = ", ".join(f"{name} {size_of(size)}" for name, size in parts.items())
    models = counted(len(held), "model")
    yield "memory", f"{size_of(sum(parts.values()))} a replica for {models}: {listed} ({precision})"


def access(serve: ServeStage) -> str:
    """Who may ask."""
    if not serve.auth:
        return "no keys: only this machine reaches it"
    return f"keys in {serve.keys}" if serve.keys else "with a key"


def replicas(serve: ServeStage) -> str:
    """How many, and what that follows."""
    scaling = serve.autoscaling
    if scaling.min == scaling.max:
        return str(scaling.min)
    target = "" if scaling.target == auto else f", one for {scaling.target:g} requests at once"
    return f"{scaling.min} to {scaling.max}{target}"
