"""The spec: what one YAML file says, composed of the records that each package owns.

`SpecFile` is the format, a stage being one of several records told apart by its `kind`
(jobs/stages.py); `Spec` is a loaded one that also knows where it was written. `jobs.load` makes it,
`jobs.plan` replaces every `auto` in it.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import MinLen
from pydantic import Discriminator

from cluster.config import ClusterConfig
from deploy.config import KubernetesConfig
from jobs.stages import (
    ServeStage,
    Stage,
)
from jobs.tracking_config import TrackingConfig
from jobs.yaml_source import Problem, Source, report
from llm.config import (
    CountOrZero,
    DataConfig,
    record,
)
from llm.errors import SpecError


@record
class MachinesConfig(ClusterConfig):
    """The machines, and who lends them."""

    kubernetes: KubernetesConfig | None = None
    """What KubeRay is asked for."""


@record
class SpecFile:
    """From text to a speaking model: what to do, in one file."""

    version: Literal[1] = 1
    """Of this format; `migrate` rewrites files of older ones."""
    name: str
    """Name of the run, a folder in the storage."""
    seed: CountOrZero = 0
    """Decides every random choice: same seed, same result."""
    storage: str = "runs"
    """Folder for all that is made, reachable by every worker; relative to the current folder."""
    cluster: MachinesConfig = field(default_factory=MachinesConfig)
    """The machines."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Who is shown the figures of trainings."""
    data: DataConfig | None = None
    """The text of all stages that name no corpus."""
    stages: Annotated[dict[str, Annotated[Stage, Discriminator("kind")]], MinLen(1)]
    """What to do, by names that you choose; the order follows from who names whom."""


@dataclass(frozen=True)
class Origin:
    """Where a spec comes from: its file, the overrides over it, and the line of every value."""

    file: str
    overrides: tuple[str, ...]
    source: Source

    def error(self, findings: list[tuple[tuple[str | int, ...], str]]) -> SpecError:
        """Findings of (path, message) as one error that names their lines."""
        return report(Problem(self.source.place(keys), keys, text) for keys, text in findings)


@dataclass(frozen=True, kw_only=True)
class Spec(SpecFile):
    """A spec that holds together, with absolute paths."""

    origin: Origin = field(repr=False, compare=False)
    places: Mapping[str, Path] = field(default_factory=dict)
    """Where stages put their artifacts that do not in the run's folder: those of a trial."""

    def place(self, stage: str) -> Path:
        """Folder of a stage's artifacts."""
        return self.places.get(stage, self.folder / stage)

    @property
    def folder(self) -> Path:
        """Where its stages put their artifacts."""
        return Path(self.storage) / self.name

    @property
    def feedback(self) -> Path:
        """Where a serve stage keeps what people say, unless it has a folder of its own."""
        own = [s.feedback.folder for s in self.stages.values() if isinstance(s, ServeStage)]
        return Path(next(filter(None, own), None) or self.folder / "feedback")

    def command(self, verb: str) -> str:
        """The command line that does something with this very spec."""
        return shlex.join(["python", "-m", "jobs", verb, self.origin.file, *self.origin.overrides])
