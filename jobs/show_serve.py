"""A serve stage in the plan: what is served, where, by how many."""

from collections.abc import Iterator

from jobs.figures import counted
from jobs.spec import ServeStage
from llm.config import auto

Rows = Iterator[tuple[str, str]]


def serve_rows(serve: ServeStage) -> Rows:
    """What there is to say about a serve stage."""
    yield "models", ", ".join(serve.models)
    yield "address", f"http://{serve.host}:{serve.port or '(a free port)'}, {access(serve)}"
    yield "replicas", replicas(serve)
    if serve.engine.tokens != auto:
        memory = f"remembers {serve.engine.tokens:,} tokens"
        yield "engine", f"{counted(serve.engine.slots, 'slot')} each, {memory}"


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
