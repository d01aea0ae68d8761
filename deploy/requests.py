"""What both ways of asking have in common: sampling, streaming, and names that we refuse.

Fields that say "changes nothing" are hints to OpenAI's own servers, which clients may go on
sending. `UNSUPPORTED` are those that we do not have and that would change an answer: refused by
name, unless their value asks for nothing special.
"""

import secrets
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Le
from pydantic import Field, ValidationError

from deploy.errors import ApiError
from deploy.fields import Bias, Fields, Metadata, ShortText, Whole, explained, like, stops
from deploy.protocol import ModelCard, Sampling

CHOICES = 16
"""Most answers to one question."""

TOKENS = 1_000_000
"""More than any context; the engine says what fits."""

NOTHING: tuple[Any, ...] = (None,)

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "parallel_tool_calls": (None, True, False),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": NOTHING,
    "prediction": NOTHING,
    "web_search_options": NOTHING,
    "moderation": NOTHING,
    "reasoning_effort": (None, "none"),
    "verbosity": (None, "medium"),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "prompt_cache_options": NOTHING,
    "suffix": (None, ""),
}
"""Names, and their values that ask for nothing."""


class StreamOptions(Fields):
    """What else a stream tells."""

    include_usage: bool | None = None
    """A last chunk with the numbers of tokens."""
    include_obfuscation: Literal[False] | None = None
    """Padding against listeners who count bytes: not available."""


class Request(Fields):
    """Fields of every request that writes text. Null is the same as leaving a field out."""

    model: Annotated[str, Field(max_length=256)] | None = None
    """Id of a model; the first one of `/v1/models` if none is named."""
    stream: bool | None = None
    """Whether the answer comes piece by piece, as server-sent events."""
    stream_options: StreamOptions | None = None
    """Only with `stream`."""
    n: Annotated[Whole, Ge(1), Le(CHOICES)] | None = None
    """Answers to each question."""
    temperature: Annotated[float, Ge(0), Le(2)] | None = None
    """Sharpness of the choice of tokens; 0 always takes the most probable one."""
    top_p: Annotated[float, Ge(0), Le(1)] | None = None
    """Choose among the most probable tokens that together reach this probability."""
    top_k: Annotated[Whole, Ge(-1), Le(TOKENS)] | None = None
    """Choose among so many most probable tokens; 0 and -1: all. (As vLLM.)"""
    min_p: Annotated[float, Ge(0), Le(1)] | None = None
    """Drop tokens less probable than this share of the most probable one. (As vLLM.)"""
    presence_penalty: Annotated[float, Ge(-2), Le(2)] | None = None
    """Taken off the logits of tokens that were written already."""
    frequency_penalty: Annotated[float, Ge(-2), Le(2)] | None = None
    """Taken off the logits of tokens for each time that they were written."""
    logit_bias: Bias = None
    """Added to the logits of tokens, by their number."""
    stop: stops(4) = None  # type: ignore[valid-type]
    """Strings that end the text; they are not written."""
    seed: Annotated[Whole, Ge(-(2**63)), Le(2**63 - 1)] | None = None
    """Same seed, same text."""
    ignore_eos: bool | None = None
    """Write on behind the end of the text, up to the limit. (As vLLM, for benchmarks.)"""
    user: ShortText | None = None
    """Accepted; changes nothing."""
    metadata: Metadata = None
    """Accepted; changes nothing."""
    safety_identifier: ShortText | None = None
    """Accepted; changes nothing."""
    prompt_cache_key: ShortText | None = None
    """Accepted; changes nothing: prompts are found again by their tokens."""
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    """Accepted; changes nothing."""

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, max_tokens: int | None) -> Sampling:
        """How an engine is to choose; a seed is drawn if the caller has none."""
        seed = secrets.randbits(63) if self.seed is None else self.seed % 2**63
        top_p = 1.0 if self.top_p is None else float(self.top_p)
        return Sampling(
            temperature=1.0 if self.temperature is None else float(self.temperature),
            top_p=max(top_p, 1e-9),  # 0 asks for the most probable token: a share that it reaches
            top_k=max(self.top_k or 0, 0),
            min_p=float(self.min_p or 0),
            max_tokens=max_tokens,
            stop=self.stop or (),
            seed=seed,
            presence_penalty=float(self.presence_penalty or 0),
            frequency_penalty=float(self.frequency_penalty or 0),
            logit_bias=self.logit_bias or {},
            ignore_end=bool(self.ignore_eos),
        )

    def check_against(self, card: ModelCard) -> None:
        """What can only be said once the model is known."""
        if beyond := [token for token in self.logit_bias or () if token >= card.vocab_size]:
            raise ApiError(
                400,
                "invalid_value",
                f"logit_bias: {card.id} has no token {beyond[0]}; its tokens are 0 to "
                f"{card.vocab_size - 1}",
                "logit_bias",
            )


R = TypeVar("R", bound=Request)


def read(body: dict[str, Any], kind: type[R]) -> R:
    """The request that a body makes; unknown names first, for they are cheap to find."""
    known = {name: value for name, value in body.items() if is_known(name, value, kind)}
    try:
        request = kind.model_validate(known)
    except ValidationError as error:
        raise explained(error) from None
    if request.stream_options is not None and not request.stream:
        raise ApiError(
            400,
            "invalid_value",
            "stream_options: only allowed together with stream: true",
            "stream_options",
        )
    return request


def is_known(name: str, value: Any, kind: type[Request]) -> bool:
    """Whether a field is one of ours; false for a foreign one that asks for nothing."""
    if name in kind.model_fields:
        return True
    if name not in UNSUPPORTED:
        raise ApiError(
            400,
            "unknown_parameter",
            f"unknown parameter: {name[:64]}{like(name, list(kind.model_fields))}",
            name[:64],
        )
    if any(value == nothing and type(value) is type(nothing) for nothing in UNSUPPORTED[name]):
        return False
    raise ApiError(
        400, "unsupported_parameter", f"{name} is not supported here; leave it out", name
    )
