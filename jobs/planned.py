"""What a plan is made of: every stage as it will run, or as it was found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from cluster.config import ClusterConfig
from jobs.estimate import Estimate
from jobs.facts import Facts
from jobs.fingerprint import FORMAT
from jobs.kinds import MODELS, as_json
from jobs.saving import Saving
from jobs.spec import Spec
from jobs.stages import AnyStage
from llm.config import ModelConfig


@dataclass(frozen=True)
class StagePlan:
    """One stage as it will run, or as it was found."""

    name: str
    kind: str
    status: Literal["cached", "not needed", "will run", "on demand"]
    reason: str
    """Why it runs; what was found if it does not."""
    written: AnyStage
    """As the file has it."""
    stage: AnyStage | None
    """Without any auto; None while it waits for what an earlier stage finds out."""
    fingerprint: str | None
    folder: Path | None
    parents: Mapping[str, str]
    """Fingerprints by the key that names the stage."""
    data: Mapping[str, Any]
    """Digests of the text it reads, and how it is read."""
    seed: int
    text_bytes: int = 0
    """Size of the text it reads, as far as it is known."""
    source_bytes: Mapping[str, int] = field(default_factory=dict)
    """The same of each source of a corpus."""
    vocab_size: int | None = None
    """Tokens of the tokenizer, or of the model; None: not known yet."""
    model: ModelConfig | None = None
    """The model that it makes or uses."""
    estimate: Estimate | None = None
    saving: Saving | None = None
    """How often it should save; None if there is nothing to train."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """What it measured, if it is finished."""
    extends: bool = False
    """Whether it was finished, and is now to do more of the same."""

    @property
    def identity(self) -> str:
        """What later stages know it by: a sweep of more trials can have another best one."""
        best = self.metrics.get("best")
        return f"{self.fingerprint}.{best['trial']}" if best else str(self.fingerprint)

    @property
    def cached(self) -> bool:
        """Whether there is nothing to do."""
        return self.status != "will run"

    @property
    def manifest(self) -> dict[str, Any]:
        """What identifies the artifact; `jobs.run` adds the code's version and the metrics."""
        assert self.stage is not None
        return {
            "format": FORMAT,
            "stage": self.name,
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "spec": as_json(self.stage),
            "parents": dict(self.parents),
            "data": dict(self.data),
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Plan:
    """Every stage in the order in which they run."""

    spec: Spec
    facts: Facts
    cluster: ClusterConfig
    stages: tuple[StagePlan, ...]

    @cached_property
    def by_name(self) -> dict[str, StagePlan]:
        """The stages by their names."""
        return {stage.name: stage for stage in self.stages}

    @property
    def next(self) -> StagePlan | None:
        """The first stage that is not done; None: all are."""
        return next((stage for stage in self.stages if not stage.cached), None)

    @property
    def next_command(self) -> str | None:
        """What to do now: run it, then serve it or let it write; None if it has no model."""
        if self.next is not None:
            return self.spec.command("run")
        if any(stage.kind == "serve" for stage in self.stages):
            return self.spec.command("serve")
        if any(stage.kind in MODELS for stage in self.stages):
            return f"{self.spec.command('generate')} --prompt TEXT"
        return None
