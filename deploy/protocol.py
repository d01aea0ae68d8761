"""What the HTTP side and the engines say to each other: records that travel between processes.

    Job -> Refused
    Job -> Begun, Piece ..., Ended per choice ...

Neither torch nor ray: the HTTP side needs neither, and tests put anything in an engine's place.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from llm.chat import Conversation

Prompt = Conversation | str | tuple[int, ...]
"""A conversation to be answered; a text, or its tokens, to be continued."""

Reason = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the tokens of one request are chosen. All values were checked when the request came."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0: all."""
    min_p: float = 0.0
    max_tokens: int | None = None
    """None: as many as the context has room for. 0 writes nothing (for `echo`)."""
    stop: tuple[str, ...] = ()
    seed: int = 0
    """The HTTP side draws one where the request has none."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    ignore_end: bool = False
    """Whether texts go on behind their end, up to `max_tokens` (for benchmarks)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request: `n` choices for each prompt; choice i of prompt p has the index p * n + i."""

    id: str
    prompts: tuple[Prompt, ...]
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    logprobs: int | None = None
    """Most probable tokens that are told with each token; 0: the token alone; None: nothing."""
    echo: bool = False
    """Whether prompts are given back before what continues them, with their log-probabilities."""
    truncation: Literal["disabled", "auto"] = "disabled"


Candidate = tuple[str, bytes, float]
"""A token, its bytes, and the log of its probability."""


@dataclass(frozen=True)
class TokenLogprob:
    """A token, its bytes (maybe half a character), and the log of its probability at temperature 1,
    penalties and bias left out; None for the first token of a text, before which is nothing."""

    token: str
    bytes: bytes
    logprob: float | None
    top: tuple[Candidate, ...] = ()
    """The most probable ones, best first."""


@dataclass(frozen=True)
class Refused:
    """Why a job is not done: an error of the caller, or `status` 429 or 503 for a full or closing
    engine. The first event and the only one."""

    status: int
    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True)
class Begun:
    """The job has its place. The first event."""

    prompt_tokens: int
    """Of all prompts."""
    cached_tokens: int = 0
    """Of these, not read again since they were remembered."""
    dropped_messages: int = 0
    """Oldest turns that were left out by `truncation: auto`."""
    usage: float = 0.0
    """Share of the engine's key-value memory that is in use."""


@dataclass(frozen=True)
class Piece:
    """What was added to a choice: whole characters, maybe none yet for tokens that made none."""

    index: int
    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True)
class Ended:
    """A choice is complete."""

    index: int
    reason: Reason


@dataclass(frozen=True)
class Failed:
    """The engine broke in the middle. The last event."""

    message: str


Event = Refused | Begun | Piece | Ended | Failed


@dataclass(frozen=True)
class ModelCard:
    """A model that is served."""

    id: str
    artifact: str
    """Fingerprint of what is served now; changes when a newer one takes its place."""
    created: int
    """Seconds since 1970."""
    context: int
    chat: bool
    """Whether it was taught to talk; others only continue texts."""
    vocab_size: int
    owner: str = "humpty"


class Backend(Protocol):
    """Where the HTTP side finds engines."""

    def models(self) -> Mapping[str, ModelCard]:
        """What is served, by id; the first one is the default."""

    def generate(self, model: str, job: Job) -> AsyncIterator[Event]:
        """The events of a job; closing the iterator gives it up, and frees its slot."""
