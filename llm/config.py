"""What text, tokenizer, model and training are made of: frozen records, neither torch nor ray.

A field typed `Auto[...]` also takes the word `auto`; `jobs.plan` replaces it by a plain number
before anything runs, so the code that reads these records only ever sees numbers.
The string below a field is its help: it goes into the JSON Schema and the README.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from annotated_types import Ge, Gt, Le, Lt

from llm.presets import kv_heads

T = TypeVar("T")

auto: Any = "auto"
"""Default of a field that the plan works out."""


class OrAuto:
    """Marks a field that accepts the word `auto` besides its own type."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_wrap_validator_function(
            lambda value, inner: value if value == "auto" else inner(value), handler(source)
        )

    @staticmethod
    def __get_pydantic_json_schema__(schema: Any, handler: Callable[[Any], Any]) -> Any:
        return {"anyOf": [{"const": "auto"}, handler(schema)]}


@dataclass(frozen=True)
class OneOrMany:
    """Marks a tuple field that accepts a single value in place of a list of one."""

    least: int = 0

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        items = core_schema.tuple_variable_schema(
            core_schema.str_schema(), min_length=self.least or None, strict=False
        )
        return core_schema.no_info_before_validator_function(
            lambda value: (value,) if isinstance(value, str) else value, items
        )

    @staticmethod
    def __get_pydantic_json_schema__(schema: Any, handler: Callable[[Any], Any]) -> Any:
        return {"anyOf": [{"type": "string"}, handler(schema)]}


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: type[T]) -> type[T]:
    """A frozen, keyword-only dataclass that a spec fills in: strictly typed, no unknown keys."""
    settings = {"strict": True, "extra": "forbid", "use_attribute_docstrings": True}
    cls.__pydantic_config__ = settings  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(cls)


Auto = Annotated[T, OrAuto()]
Count = Annotated[int, Gt(0)]
CountOrZero = Annotated[int, Ge(0)]
Rate = Annotated[float, Gt(0)]
RateOrZero = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
ShareBelowOne = Annotated[float, Ge(0), Lt(1)]
Strings = Annotated[tuple[str, ...], OneOrMany()]
AtLeastOneString = Annotated[tuple[str, ...], OneOrMany(least=1)]


@record
class ValidationConfig:
    """Which text is held out of training, and how much of it measures the model."""

    fraction: ShareBelowOne = 0.05
    """Share of documents held out, chosen by a hash of their text; 0 holds out none."""
    shards: Strings = ()
    """Files, folders or globs of held-out text; when given, `fraction` must be 0."""
    tokens: Count = 32_768
    """Tokens of held-out text that a validation reads at most."""


@record
class TextConfig:
    """Files of text, and how documents are read from them."""

    shards: AtLeastOneString
    """Files, folders, globs or URIs (s3://, gs://, https://); `pydoc://` is Python's own docs."""
    format: Literal["auto", "parquet", "jsonl", "txt", "csv", "warc", "wet"] = "auto"
    """How shards are written; auto goes by the file name (.parquet .jsonl .txt .csv .warc .wet,
    the last five also .gz and .zst)."""
    text: str = "text"
    """Column (parquet, csv) or key (jsonl) that holds a document's text."""
    documents: Literal["file", "line", "paragraph"] = "file"
    """What one document is in a txt shard; training cuts a file at line ends, 64 KiB at most."""
    encoding: str = "utf-8"
    """Encoding of txt, csv and jsonl shards: utf-8, gb18030, big5, utf-16, ...; detect: guessed."""


@record
class DataConfig(TextConfig):
    """Where the text is and how it is read."""

    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Held-out text."""


@record
class TokenizerConfig:
    """A sentencepiece tokenizer, trained on a sample of the data or taken from a file."""

    model: Literal["unigram", "bpe", "char", "word"] = "unigram"
    """How text is cut into tokens."""
    vocab_size: Auto[Count] = auto
    """Tokens, reserved ones included; auto: 8192, and for char and word all that occur."""
    byte_fallback: Auto[bool] = auto
    """Spell unknown characters as UTF-8 bytes (256 tokens); auto: yes for unigram and bpe."""
    coverage: Annotated[float, Gt(0), Le(1)] = 0.9995
    """Share of the sample's characters that get a token of their own."""
    normalize: Literal["none", "nfkc"] = "none"
    """Unicode normalisation of all text; none keeps every character as it is."""
    sample_bytes: Count = 20_000_000
    """Bytes of text that the tokenizer is trained on, drawn evenly from all shards."""
    file: str | None = None
    """A sentencepiece .model to use as it is; then nothing is trained."""


@record
class RopeConfig:
    """Rotary positions, and how they are stretched beyond the context of an earlier training."""

    base: Annotated[float, Gt(1)] = 10_000.0
    """Tokens, divided by 2 pi, in which the slowest pair of features turns once."""
    scaling: Literal["none", "linear", "llama3"] = "none"
    """linear: all pairs turn `factor` times slower (Chen et al. 2023); llama3: only slow ones."""
    factor: Annotated[float, Ge(1)] = 1.0
    """How much slower."""
    original_context: CountOrZero = 0
    """Tokens of the context of the training before; needed by llama3."""
    low_freq_factor: Rate = 1.0
    """llama3: pairs with fewer turns than this in the original context are slow."""
    high_freq_factor: Rate = 4.0
    """llama3: pairs with more turns than this in the original context stay as they are."""


GATED = ("swiglu", "geglu")
"""MLPs with a second map into their hidden features."""


@record
class ModelConfig:
    """A model of text. `depth` alone is enough: the rest follows from it."""

    preset: Literal["humpty", "gpt2", "llama", "bert", "t5", "window"] = "humpty"
    """An architecture by its name: other defaults for the fields below that are not sizes."""
    family: Literal["decoder", "encoder", "encoder_decoder", "window"] = "decoder"
    """What it is for: to write on (decoder, or window: a feed-forward network that sees the last
    `window` tokens), to fill in single tokens (encoder) or gaps (encoder_decoder)."""
    depth: Count = 6
    """Number of layers, the one dial of the model's size."""
    width: Auto[Count] = auto
    """Features per token; auto: aspect x depth."""
    aspect: Count = 64
    """Width for every layer, where width is auto."""
    heads: Auto[Count] = auto
    """Attention heads; auto: one for every 64 of width."""
    kv_heads: Auto[Count] = auto
    """Heads of keys and values, each for as many neighbouring heads; auto: as many as heads, in
    the preset llama one for up to 4."""
    hidden: Auto[Count] = auto
    """Features inside the MLP; auto: 8/3 x width up to a 64th if it is gated, else 4 x width."""
    context: Count = 512
    """Tokens the model sees at once."""
    positions: Literal["rotary", "learned", "sinusoidal", "alibi", "none"] = "rotary"
    """How the model knows where a token stands; alibi: by attending the less the farther."""
    rope: RopeConfig = field(default_factory=RopeConfig)
    """Rotary positions."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """Normalisation before attention, MLP and head."""
    norm_eps: Rate = 1e-5
    """Guard of the norms against division by zero."""
    qk_norm: bool = False
    """Normalise every head's queries and keys before they are compared (Henry et al. 2020)."""
    mlp: Literal["swiglu", "geglu", "gelu", "gelu_tanh", "relu", "relu2"] = "swiglu"
    """Non-linearity of the MLP; swiglu and geglu are gated, relu2 is squared."""
    bias: bool = False
    """Additive terms in linear layers and layer norms."""
    qkv_bias: Auto[bool] = auto
    """Additive terms in the map to queries, keys and values; auto: as `bias` says."""
    tied: bool = True
    """Output head shares the token embedding's weights."""
    dropout: ShareBelowOne = 0.0
    """Share of activations dropped while training."""
    attend: Literal["document", "window"] = "window"
    """What a token sees in training: only its own document, or all before it in the window."""
    window: CountOrZero = 0
    """Tokens that a token sees at most, itself included; 0: all before it."""
    code: CountOrZero = 0
    """Numbers that the decoder of an encoder_decoder sees of a text: an autoencoder; 0: all."""
    experts: CountOrZero = 0
    """MLPs of a layer, of which a router chooses for every token; 0: one without a router."""
    experts_per_token: Count = 2
    """How many of them a token goes to."""
    balance: RateOrZero = 0.01
    """Price of uneven use of the experts by a sequence; the loss is reported without it."""
    init: Literal["gpt2", "fan_in"] = "gpt2"
    """Fresh weights: all of one spread (gpt2), or by a matrix's inputs, so that narrow and deep
    models learn as well, with layers that add nothing at first (fan_in)."""

    def __post_init__(self) -> None:
        """What follows from another field is filled in, also for artifacts from before it."""
        if self.kv_heads == auto and self.heads != auto:
            object.__setattr__(self, "kv_heads", kv_heads(self.preset, self.heads))
        if self.qkv_bias == auto:
            object.__setattr__(self, "qkv_bias", self.bias)


Objective = Literal["next_token", "masked", "spans", "autoencode"]

OBJECTIVES: dict[str, tuple[Objective, ...]] = {
    "decoder": ("next_token",),
    "window": ("next_token",),
    "encoder": ("masked",),
    "encoder_decoder": ("spans", "autoencode"),
}
"""What the families of models learn from text."""


def objective_of(written: Auto[Objective], model: ModelConfig) -> Objective:
    """What is learned: what is written, or what the model is made for."""
    if written != auto:
        return written
    return "autoencode" if model.code else OBJECTIVES[model.family][0]


def model_from_json(record: Mapping[str, Any]) -> ModelConfig:
    """A model as an artifact describes it; fields that it does not know have their defaults."""
    rope = RopeConfig(**record.get("rope", {}))
    return ModelConfig(**{**record, "rope": rope})


@record
class OptimConfig:
    """The optimizer and its learning-rate schedule."""

    kind: Literal["adamw", "muon", "lion", "adafactor"] = "adamw"
    """Who updates weights: AdamW; Muon for matrices inside layers and AdamW for the rest; Lion,
    with one moment; Adafactor, with next to none."""
    lr: Auto[Rate] = auto
    """Peak learning rate; auto: 0.003239 - 0.0001395 ln(parameters) (Kaplan et al. 2020), a fifth
    of it for lion, ten times it for adafactor, whose rate is relative to the weights."""
    lr_width: CountOrZero = 0
    """Width that `lr` is meant for: matrices inside layers learn at lr x lr_width / width (muon: at
    the root of that), so the best rate stays put when the model grows (Yang et al. 2022); 0: all
    learn at lr."""
    schedule: Literal["cosine", "linear", "inverse_sqrt", "wsd", "constant"] = "cosine"
    """After warm-up: half a cosine, a line, the root of warmup / step (without final_lr), stable
    then linear decay, or no change."""
    warmup: Auto[CountOrZero] = auto
    """Steps of linear warm-up; auto: a 50th of all steps, at least 10."""
    decay: Share = 0.2
    """Share of all steps in which wsd decays."""
    final_lr: Share = 0.1
    """Learning rate at the end, as a share of the peak."""
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.95)
    """Decay rates of AdamW's two moments, or Lion's: for its step and its moment."""
    momentum: ShareBelowOne = 0.95
    """Decay rate of Muon's moment."""
    eps: Rate = 1e-8
    """AdamW's guard against division by zero."""
    weight_decay: RateOrZero = 0.1
    """Decay of matrices and embeddings; vectors (norms, biases) never decay."""
    clip: RateOrZero = 1.0
    """Largest gradient norm; 0 clips nothing."""
    ema: ShareBelowOne = 0.0
    """Decay of an average of the weights over the steps, which is validated and becomes the
    finished model: 0.999 remembers a thousand steps; 0: none."""
    z_loss: RateOrZero = 0.0
    """Price of the squared logarithm of the softmax's sum, which keeps logits from drifting; PaLM
    1e-4. Reported apart from the loss; 0: none."""


@record
class KeepConfig:
    """Which checkpoints stay on disk."""

    last: Count = 2
    """The newest ones."""
    best: bool = True
    """The one that did best on held-out data."""
    every: CountOrZero = 0
    """Those at multiples of so many steps, for good; 0: none."""


@record
class CheckpointConfig:
    """When training commits its state, and what is kept."""

    every: Auto[Count] = auto
    """Steps between checkpoints; auto: a 10th of all steps."""
    keep: KeepConfig = field(default_factory=KeepConfig)
    """Which of them stay."""
    mirror: str | None = None
    """Folder or URI (s3://bucket/runs) that gets a copy of every checkpoint; a run whose own folder
    is lost goes on from there."""


@record
class FaultsConfig:
    """What a training does about a step that would spoil the weights."""

    not_finite: Literal["stop", "skip", "roll_back"] = "stop"
    """When a loss or gradient is not finite: end with an error, leave the update out, or go back to
    the last checkpoint and leave it out on the way."""
    spike: Literal["ignore", "stop", "skip", "roll_back"] = "ignore"
    """When the loss leaps: likewise."""
    threshold: Annotated[float, Gt(1)] = 6.0
    """A leap is so many standard deviations above the mean of the recent losses."""
    most: Count = 10
    """Updates left out before the training ends with an error."""


@record
class LoopConfig:
    """In what portions and how precisely a model is trained, whatever it learns."""

    batch: Auto[Count] = auto
    """Sequences per update, over all workers; auto: 0.292 C^0.3271 tokens (DeepSeek LLM 2024)."""
    micro_batch: Auto[Count] = auto
    """Sequences per forward pass of a worker; auto: the largest divisor of batch up to 8."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of matrix products; auto: bf16 where the processor has instructions for it."""
    compile: Auto[bool] = False
    """Layers are compiled (torch.compile), which takes a minute at the start; auto: in
    pretrainings of more than a quarter of an hour, an hour on CPUs without AMX (reckoned with 40
    GFLOP/s a core, 50 TFLOP/s a GPU)."""
    recompute: Literal["none", "layers"] = "none"
    """What layers compute again for the backward pass: nothing, or all but what goes into them, for
    a third more time and a fraction of the memory."""
    validate_every: Auto[Count] = auto
    """Steps between validations; auto: a 10th of all steps."""
    log_every: Count = 10
    """Steps between progress lines."""
    statistics: CountOrZero = 0
    """Steps between figures of every layer: gradients, weights, updates, activations; 0: none."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimizer."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """What is saved when."""
    faults: FaultsConfig = field(default_factory=FaultsConfig)
    """What is done about steps that would spoil the weights."""


@record
class TrainConfig(LoopConfig):
    """A training on a stream of text, and how long it is."""

    tokens: Auto[Count] = auto
    """Tokens to train on; auto: 20 per parameter (Hoffmann et al. 2022), or what `steps` makes."""
    steps: Auto[Count] = auto
    """Optimizer updates; auto: what `tokens` makes."""
    epochs: Count | None = None
    """Passes over the text, in place of tokens and steps; the text is tokenised beforehand."""
    short_start: CountOrZero = 0
    """Steps at the start in which rows are cut into shorter ones: eighths, quarters, halves."""


@record
class SamplingConfig:
    """How the next token is chosen."""

    temperature: RateOrZero = 0.8
    """Sharpness of the choice; 0 always takes the most probable token."""
    top_k: CountOrZero = 0
    """Choose among this many most probable tokens; 0: among all."""
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    """Choose among the most probable tokens that together reach this probability."""
    min_p: ShareBelowOne = 0.0
    """Drop tokens less probable than this share of the most probable one."""
    max_tokens: Count = 128
    """Tokens to write at most."""
    stop: Strings = ()
    """Strings that end the text; they are not written."""
    seed: CountOrZero = 0
    """Same seed, same text."""
