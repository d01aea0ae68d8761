"""The stages that a file can hold: records told apart by their `kind`.

Each is made of the record that the package which does the work owns, and of names of this file.
"""

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field as PydanticField

from deploy.config import ServeConfig
from llm.align_config import DpoConfig, PpoConfig, RewardConfig, SftConfig
from llm.config import (
    AtLeastOneString,
    Auto,
    ModelConfig,
    Objective,
    SamplingConfig,
    Strings,
    TokenizerConfig,
    TrainConfig,
    auto,
    record,
)
from llm.corpus_config import CorpusConfig
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

R = TypeVar("R")


def part(whole: Any, record_type: type[R]) -> R:
    """The fields of a record that a larger one inherits, as a record of their own."""
    return record_type(**{one.name: getattr(whole, one.name) for one in fields(record_type)})  # type: ignore[arg-type]
