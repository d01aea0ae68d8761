"""The spec: what one YAML file says, composed of the records that each package owns.

`SpecFile` is the format, a stage being one of several records told apart by its `kind`; `Spec` is
a loaded one that also knows where it was written. `jobs.load` makes it, `jobs.plan` replaces every
`auto` in it. New kinds of stages are added here: a record with `kind`, and its references.
"""

import shlex
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import MinLen
from pydantic import Discriminator
from pydantic import Field as PydanticField

from cluster.config import ClusterConfig
from jobs.yaml_source import Problem, Source, report
from llm.config import (
    AtLeastOneString,
    CountOrZero,
    DataConfig,
    ModelConfig,
    SamplingConfig,
    TokenizerConfig,
    TrainConfig,
    record,
)
from llm.errors import SpecError

PYDOC = "pydoc://"
"""The text that every machine has: Python's own documentation."""


@record
class TokenizerStage(TokenizerConfig):
    """Learns from the data how to cut text into tokens."""

    kind: Literal["tokenizer"]
    """What the stage does."""


@record
class PretrainStage(TrainConfig):
    """Trains a model to write the next token of the data."""

    kind: Literal["pretrain"]
    """What the stage does."""
    tokenizer: str
    """Name of the tokenizer stage."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""
    prompt: str = ""
    """A text that the model continues at every validation, for you to watch; empty: none."""

    @property
    def train(self) -> TrainConfig:
        """The training alone, without the names of this file."""
        return part(self, TrainConfig)


@record
class GenerateStage:
    """Lets a trained model continue prompts."""

    kind: Literal["generate"]
    """What the stage does."""
    from_: Annotated[str, PydanticField(alias="from")]
    """Name of the stage whose model writes."""
    prompts: AtLeastOneString
    """Texts to continue."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How the next token is chosen."""


Stage = TokenizerStage | PretrainStage | GenerateStage

REFERENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "tokenizer": {},
    "pretrain": {"tokenizer": ("tokenizer",)},
    "generate": {"from": ("pretrain",)},
}
"""Per kind of stage: the keys that name another stage, and the kinds that it may have."""


@record
class SpecFile:
    """From text to a speaking model: what to do, in one file."""

    name: str
    """Name of the run, a folder in the storage."""
    seed: CountOrZero = 0
    """Decides every random choice: same seed, same result."""
    storage: str = "runs"
    """Folder for all that is made, reachable by every worker; relative to the current folder."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """The machines."""
    data: DataConfig
    """The text, shared by all stages."""
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

    @property
    def folder(self) -> Path:
        """Where its stages put their artifacts."""
        return Path(self.storage) / self.name

    def command(self, verb: str) -> str:
        """The command line that does something with this very spec."""
        return shlex.join(["python", "-m", "jobs", verb, self.origin.file, *self.origin.overrides])


def references(stage: Stage) -> dict[str, str]:
    """The names of the stages that a stage builds on, by the key that names them."""
    values = as_json(stage)
    return {key: values[key] for key in REFERENCES[stage.kind]}


def as_json(stage: Stage) -> dict[str, Any]:
    """A stage as it would stand in a spec; `from_` is `from` there, a word that Python keeps."""
    return {key.removesuffix("_"): value for key, value in asdict(stage).items()}


R = TypeVar("R")


def part(whole: Any, record_type: type[R]) -> R:
    """The fields of a record that a larger one inherits, as a record of their own."""
    return record_type(**{one.name: getattr(whole, one.name) for one in fields(record_type)})  # type: ignore[arg-type]
