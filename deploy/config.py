"""How a model is served: frozen records, neither torch nor ray."""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, Le

from llm.config import Auto, Count, CountOrZero, Rate, RateOrZero, Strings, auto, record

Port = Annotated[int, Ge(0), Le(65_535)]


@record
class EngineConfig:
    """A replica: how many answers it writes at once, and with what memory."""

    slots: Count = 16
    """Texts that are written at once; others wait."""
    tokens: Auto[Count] = auto
    """Tokens of all texts that are remembered (key-value cache); auto: slots x context."""
    chunk: Count = 128
    """Tokens of new prompts that are read per step, so that long ones hold nobody up."""
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    """Arithmetic of matrix products; auto: bf16 where the processor has instructions for it."""
    cpus: Auto[Count] = auto
    """Cores of a replica; auto: those of a training worker."""


@record
class AutoscalingConfig:
    """How many replicas there are."""

    min: CountOrZero = 1
    """Replicas at least; 0: none while nobody asks, and the first request waits for one."""
    max: Count = 1
    """Replicas at most."""
    target: Auto[Rate] = auto
    """Requests that a replica answers at once on average; auto: three quarters of its slots."""
    upscale_delay: RateOrZero = 5.0
    """Seconds of more load before replicas are added."""
    downscale_delay: RateOrZero = 120.0
    """Seconds of less load before replicas are taken away."""


@record
class LimitsConfig:
    """What a request and a key may ask for; more is refused with what to do."""

    queue: CountOrZero = 128
    """Requests that wait for a slot; further ones get 429 and Retry-After."""
    concurrency: Count = 64
    """Requests of one key that are answered at once."""
    requests_per_minute: Count = 3000
    """Requests of one key in a minute."""
    body_bytes: Count = 2_000_000
    """Size of a request."""
    header_bytes: Count = 16_384
    """Size of its headers."""
    timeout: Rate = 600.0
    """Seconds that an answer may take."""
    drain: RateOrZero = 30.0
    """Seconds that answers in the making are given when a server or a replica stops."""


@record
class TextFilterConfig:
    """What is kept out of questions and answers, since models repeat what they read."""

    words: str | None = None
    """A file with a word or phrase a line; texts with one of them are refused or broken off."""
    hook: str | None = None
    """A Python function as FILE.py:NAME; called with a text, true refuses it."""
    apply: tuple[Literal["input", "output"], ...] = ("input", "output")
    """What is looked at."""


@record
class FeedbackConfig:
    """What people say about answers, kept for the next round of training."""

    enabled: bool = True
    """Whether it is asked for and kept."""
    folder: str | None = None
    """Where it is kept; none: `feedback` in the folder of the run."""


@record
class ServeConfig:
    """An OpenAI-compatible endpoint and a chat page."""

    host: str = "127.0.0.1"
    """Address that it listens on; 0.0.0.0 is open to the network."""
    port: Port = 8000
    """Port that it listens on; 0: a free one."""
    auth: bool = True
    """Whether requests need an API key; without one only on 127.0.0.1."""
    keys: str | None = None
    """A file of hashed keys, written by `python -m jobs key`; none: the environment variable
    HUMPTY_API_KEYS, else a key for this time is made and shown."""
    system: str = ""
    """System prompt of conversations that bring none."""
    truncation: Literal["disabled", "auto"] = "disabled"
    """What becomes of a conversation longer than the context: refused, or its oldest turns are left
    out; requests may choose for themselves."""
    cors: Strings = ()
    """Origins of other web pages that may ask; none: only the chat page."""
    resident: Count = 2
    """Models that a replica keeps in memory, if there are several."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """The replicas."""
    autoscaling: AutoscalingConfig = field(default_factory=AutoscalingConfig)
    """Their number."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    """Bounds of requests."""
    filters: TextFilterConfig = field(default_factory=TextFilterConfig)
    """What is kept out."""
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    """What people say about answers."""
