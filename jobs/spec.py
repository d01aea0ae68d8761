"""The spec: what one YAML file says, composed of the records that each package owns.

`SpecFile` is the format, a stage being one of several records told apart by its `kind`; `Spec` is
a loaded one that also knows where it was written. `jobs.load` makes it, `jobs.plan` replaces every
`auto` in it. New kinds of stages are added here: a record with `kind`, and its references.
"""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import MinLen
from pydantic import Discriminator
from pydantic import Field as PydanticField

from cluster.config import ClusterConfig
from deploy.config import KubernetesConfig, ServeConfig
from jobs.tracking_config import TrackingConfig
from jobs.yaml_source import Problem, Source, report
from llm.align_config import DpoConfig, PpoConfig, RewardConfig, RowsConfig, SftConfig
from llm.config import (
    AtLeastOneString,
    Auto,
    CountOrZero,
    DataConfig,
    ModelConfig,
    Objective,
    SamplingConfig,
    Strings,
    TextConfig,
    TokenizerConfig,
    TrainConfig,
    auto,
    record,
)
from llm.corpus_config import CorpusConfig
from llm.errors import SpecError
from llm.evaluate_config import EvaluateConfig
from llm.exchange_config import ExportConfig, ImportConfig
from llm.presets import Preset
from tune.config import ScalingConfig, SweepConfig

PYDOC = "pydoc://"
"""The text that every machine has: Python's own documentation."""

FEEDBACK = "feedback://"
"""What people said on the chat page about the answers of this run's models; maybe nothing yet."""


@record
class CorpusStage(CorpusConfig):
    """Makes clean shards, each document once, of messy files."""

    kind: Literal["corpus"]
    """What the stage does."""

    @property
    def config(self) -> CorpusConfig:
        """The corpus alone, without the names of this file."""
        return part(self, CorpusConfig)

    @property
    def weights(self) -> dict[str, float]:
        """Shares of the training tokens by source: of all sources, or of none."""
        weights = {name: source.weight for name, source in self.sources.items()}
        return {name: weight for name, weight in weights.items() if weight is not None}


@record
class TokenizerStage(TokenizerConfig):
    """Learns from text how to cut it into tokens."""

    kind: Literal["tokenizer"]
    """What the stage does."""
    corpus: str | None = None
    """Name of the corpus stage whose text it reads; none: the text of `data`."""


From = Annotated[str, PydanticField(alias="from")]
FromOrNone = Annotated[str | None, PydanticField(alias="from")]


@record
class PretrainStage(TrainConfig):
    """Trains a model on a text: to write its next token, or to fill in what is hidden of it."""

    kind: Literal["pretrain"]
    """What the stage does."""
    tokenizer: str = ""
    """Name of the tokenizer stage; with `from` it is that model's."""
    from_: FromOrNone = None
    """Name of the stage whose model is trained on, which says what the model is; `model` may change
    its context, dropout, attend and balance, and an automatic learning rate is a quarter of a
    fresh model's. None: a fresh model."""
    corpus: str | None = None
    """Name of the corpus stage whose text it reads; none: the text of `data`."""
    cache: Auto[bool] = auto
    """Tokenise all text beforehand, once for all trainings on it; auto: if `epochs` is given."""
    model: Annotated[ModelConfig, Preset()] = field(default_factory=ModelConfig)
    """The model."""
    objective: Auto[Objective] = auto
    """What is learned; auto: next_token, for an encoder masked (15% of the tokens), for an
    encoder_decoder spans (15%, three in a row), with a `code` autoencode (words, letter by
    letter)."""
    prompt: str = ""
    """A text that the model continues at every validation, for you to watch; where it fills in,
    [MASK] stands for what is hidden; empty: none."""

    @property
    def train(self) -> TrainConfig:
        """The training alone, without the names of this file."""
        return part(self, TrainConfig)

    @property
    def caches(self) -> bool:
        """Whether its text is tokenised beforehand."""
        return self.epochs is not None if self.cache == auto else self.cache


@dataclass(frozen=True, kw_only=True)
class TokensStage:
    """Tokenises a text once for all; no file writes it, `cache: true` puts it into the plan."""

    tokenizer: str
    corpus: str | None
    kind: str = "tokens"


@record
class SftStage(SftConfig):
    """Teaches a pretrained model to answer."""

    kind: Literal["sft"]
    """What the stage does."""
    from_: From
    """Name of the stage whose model is trained on."""


@record
class RewardStage(RewardConfig):
    """Learns from people's comparisons how good an answer is."""

    kind: Literal["reward"]
    """What the stage does."""
    from_: From
    """Name of the stage whose model becomes the reward model."""


@record
class DpoStage(DpoConfig):
    """Moves a chat model towards the answers that people prefer."""

    kind: Literal["dpo"]
    """What the stage does."""
    from_: From
    """Name of the stage whose model is trained on; it is also the reference."""


@record
class PpoStage(PpoConfig):
    """Lets a chat model find out which answers earn most reward."""

    kind: Literal["ppo"]
    """What the stage does."""
    from_: From
    """Name of the stage whose model is trained on; it is also the reference."""
    reward: str | None = None
    """Name of the reward stage that judges answers; none: `rule` does."""


AlignStage = SftStage | RewardStage | DpoStage
"""Trainings by `llm.align`."""

ExampleStage = SftStage | RewardStage | DpoStage | PpoStage
"""Stages with data sets of their own."""


@record
class GenerateStage:
    """Lets a trained model continue prompts; one that learned to talk answers them, one that fills
    in puts something in place of every [MASK]."""

    kind: Literal["generate"]
    """What the stage does."""
    from_: From
    """Name of the stage whose model writes."""
    prompts: AtLeastOneString
    """Texts to continue, or to fill in."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How the next token is chosen."""


@record
class EvaluateStage(EvaluateConfig):
    """Measures models side by side, and says how sure the figures are."""

    kind: Literal["evaluate"]
    """What the stage does."""
    from_: From
    """Name of the stage whose model is measured."""
    also: Strings = ()
    """Names of stages whose models are measured beside it, on the same items."""
    corpus: str | None = None
    """Name of a corpus stage, of each source of which the held-out text is measured, too."""
    reward: str | None = None
    """Name of the reward stage that judges `wins`."""

    @property
    def models(self) -> tuple[str, ...]:
        """The stages whose models are measured, that of `from` first."""
        return tuple(dict.fromkeys((self.from_, *self.also)))

    @property
    def config(self) -> EvaluateConfig:
        """What is measured, without the names of this file."""
        return part(self, EvaluateConfig)


@record
class ServeStage(ServeConfig):
    """Lets people and programs talk to a model; started by `serve`, not by `run`."""

    kind: Literal["serve"]
    """What the stage does."""
    from_: From
    """Name of the stage whose model is served, under that name."""
    also: Strings = ()
    """Names of further stages whose models are served beside it."""

    @property
    def models(self) -> tuple[str, ...]:
        """The stages whose models are served; the first one answers who names none."""
        return tuple(dict.fromkeys((self.from_, *self.also)))


@record
class SweepStage(SweepConfig):
    """Runs stages many times with other values, and keeps what did best."""

    kind: Literal["sweep"]
    """What the stage does."""
    of: AtLeastOneString
    """Names of the stages that a trial runs, in a row; the last one is measured. They run by
    themselves only where other stages name them."""

    @property
    def config(self) -> SweepConfig:
        """The search alone, without the names of this file."""
        return part(self, SweepConfig)


@record
class ScalingStage(ScalingConfig):
    """Trains models of several sizes at equal costs, and says what a larger budget is best for."""

    kind: Literal["scaling"]
    """What the stage does."""
    of: str
    """Name of the pretrain stage whose depth and tokens vary."""

    @property
    def config(self) -> ScalingConfig:
        """The ladder alone, without the names of this file."""
        return part(self, ScalingConfig)


@record
class ImportStage(ImportConfig):
    """Takes a model of transformers over, to be trained on, aligned and served."""

    kind: Literal["import"]
    """What the stage does."""


@record
class ExportStage(ExportConfig):
    """Writes a model as a folder of transformers, or as a file for llama.cpp."""

    kind: Literal["export"]
    """What the stage does."""
    from_: From
    """Name of the stage whose model is written."""

    @property
    def config(self) -> ExportConfig:
        """What it is told, without the names of this file."""
        return part(self, ExportConfig)


SearchStage = SweepStage | ScalingStage
"""Stages that run other stages, with other values."""

Stage = (
    CorpusStage
    | TokenizerStage
    | PretrainStage
    | ExampleStage
    | GenerateStage
    | EvaluateStage
    | ServeStage
    | ImportStage
    | ExportStage
    | SearchStage
)
"""What a file can hold."""

AnyStage = Stage | TokensStage
"""What a plan can hold."""

TRAININGS = PretrainStage | ExampleStage
"""Stages that train a model, with checkpoints."""

MODELS = ("pretrain", "sft", "dpo", "ppo", "import")
"""Kinds whose artifact is a model that writes."""

NOT_WRITTEN = {"tokens": "write `cache: true` in the pretrain stage that reads them"}
"""Kinds that no file holds, and what to do in their place."""

REFERENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "corpus": {},
    "tokenizer": {"corpus": ("corpus",)},
    "tokens": {"tokenizer": ("tokenizer",), "corpus": ("corpus",)},
    "pretrain": {"tokenizer": ("tokenizer",), "from": MODELS, "corpus": ("corpus",)},
    "sft": {"from": MODELS},
    "reward": {"from": ("sft", "dpo", "ppo", "import")},
    "dpo": {"from": ("sft", "dpo", "ppo", "import")},
    "ppo": {"from": ("sft", "dpo", "import"), "reward": ("reward",)},
    "import": {},
    "export": {"from": (*MODELS, "reward")},
    "generate": {"from": MODELS},
    "evaluate": {"from": MODELS, "also": MODELS, "corpus": ("corpus",), "reward": ("reward",)},
    "serve": {"from": MODELS, "also": MODELS},
    "sweep": {"of": ("corpus", "tokenizer", "pretrain", "sft", "reward", "dpo", "ppo")},
    "scaling": {"of": ("pretrain",)},
}
"""Per kind of stage: the keys that name other stages, and the kinds that those may have. A sweep
counts as what its last stage is."""


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


def references(stage: AnyStage) -> dict[str, str]:
    """The names of the stages that a stage builds on, by the key that names them: `also.0`."""
    values = as_json(stage)
    named: dict[str, str] = {}
    for key in REFERENCES[stage.kind]:
        value = values[key]
        if isinstance(value, list | tuple):
            named |= {f"{key}.{number}": name for number, name in enumerate(value)}
        elif value:
            named[key] = value
    return named


def kind_made(name: str, stages: Mapping[str, Stage]) -> str:
    """What a stage's artifact is: that of a sweep is its best trial's."""
    stage = stages[name]
    if isinstance(stage, SweepStage) and stage.of[-1] in stages:
        return stages[stage.of[-1]].kind
    return stage.kind


def rows_run(stage: AnyStage) -> tuple[str, ...]:
    """The stages that a trial of a sweep or a ladder runs; none for other stages."""
    if isinstance(stage, SweepStage):
        return stage.of
    return (stage.of,) if isinstance(stage, ScalingStage) else ()


def reads_data(stage: AnyStage) -> bool:
    """Whether a stage reads the text of `data`."""
    if not isinstance(stage, TokenizerStage | PretrainStage | TokensStage):
        return False
    if stage.corpus is not None:
        return False
    return not isinstance(stage, TokenizerStage) or stage.file is None


def data_sets(stage: AnyStage) -> tuple[RowsConfig, ...]:
    """The data sets that a stage brings along."""
    return tuple(stage.data) if isinstance(stage, ExampleStage) else ()


def measured_on(stage: AnyStage) -> dict[tuple[str, ...], TextConfig | RowsConfig]:
    """The texts, tasks and prompts of an evaluation, by their place in the stage."""
    if not isinstance(stage, EvaluateStage):
        return {}
    found: dict[tuple[str, ...], TextConfig | RowsConfig] = {
        **{("text", name): text for name, text in stage.text.items()},
        **{("tasks", name): task for name, task in stage.tasks.items()},
    }
    for group, prompts in (("wins", stage.wins), ("toxicity", stage.toxicity)):
        if prompts is not None:
            found[group,] = prompts
    return found


def as_json(stage: AnyStage) -> dict[str, Any]:
    """A stage as it would stand in a spec; `from_` is `from` there, a word that Python keeps."""
    return {key.removesuffix("_"): value for key, value in asdict(stage).items()}


R = TypeVar("R")


def part(whole: Any, record_type: type[R]) -> R:
    """The fields of a record that a larger one inherits, as a record of their own."""
    return record_type(**{one.name: getattr(whole, one.name) for one in fields(record_type)})  # type: ignore[arg-type]
