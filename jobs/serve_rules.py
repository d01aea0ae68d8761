"""What must hold inside a serve stage; findings are (path, message), paths start at the stage."""

from collections.abc import Iterator

from jobs.stages import ServeStage
from jobs.yaml_source import Keys
from llm.config import auto

Findings = Iterator[tuple[Keys, str]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""


def of_serving(stage: ServeStage) -> Findings:
    """Who may ask, how many replicas there are, and what keeps texts out."""
    if not stage.auth and stage.host not in LOOPBACK:
        message = f"false is not allowed with host {stage.host}: anybody there could use the model"
        yield ("auth",), f"{message}; leave it out, or set host: 127.0.0.1"
    if stage.keys is not None and not stage.auth:
        yield ("keys",), "has no effect together with auth: false; leave one of them out"
    scaling = stage.autoscaling
    if scaling.min > scaling.max:
        message = f"{scaling.min} is not allowed; must be at most max, {scaling.max}"
        yield ("autoscaling", "min"), message
    if scaling.target != auto and scaling.target > stage.engine.slots:
        message = f"{scaling.target:g} is not allowed; must be at most slots, {stage.engine.slots}"
        yield ("autoscaling", "target"), message
    hook = stage.filters.hook
    if hook is not None and not hook.rpartition(":")[0].endswith(".py"):
        yield ("filters", "hook"), f"{hook!r} is not allowed; write FILE.py:NAME"
    if "*" in stage.cors:
        message = "'*' is not allowed: any page could use a visitor's key; name the origins"
        yield ("cors",), message


def of_memory(stage: ServeStage, context: int) -> Findings:
    """The memory of texts holds one that is as long as the context."""
    tokens = stage.engine.tokens
    if tokens != auto and tokens < context:
        message = f"{tokens} is not allowed; must be at least {context}, the model's context"
        yield ("engine", "tokens"), message
