"""POST /v1/completions: texts to be continued, as strings or as tokens."""

from dataclasses import replace
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import PlainValidator, WithJsonSchema

from deploy.errors import ApiError
from deploy.fields import Whole, stops, wrong
from deploy.protocol import Job, ModelCard
from deploy.requests import TOKENS, Request

PROMPTS = 1024
"""Texts of one request, each with its choices."""

MAX_TOKENS = 16
"""OpenAI's default."""

Texts = tuple[str, ...] | tuple[tuple[int, ...], ...]


def read_prompt(value: Any) -> Texts:
    """A string, strings, tokens, or lists of tokens; looks at every item once."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise wrong("invalid_type", "must be a string, strings, token numbers or arrays of these")
    if type(value[0]) is int:
        return (read_tokens(value),)
    if len(value) > PROMPTS:
        raise wrong("array_above_max_length", "has more than {most} texts", most=PROMPTS)
    if all(isinstance(text, str) for text in value):
        return tuple(value)
    return tuple(map(read_tokens, value))


def read_tokens(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise wrong("invalid_type", "must hold texts only, or filled arrays of token numbers only")
    if not all(type(token) is int and 0 <= token <= TOKENS for token in value):
        raise wrong("invalid_value", "has tokens that are no whole numbers, or out of range")
    return tuple(value)


TOKEN_LIST = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "integer", "minimum": 0, "maximum": TOKENS},
}

Prompts = Annotated[
    Any,
    PlainValidator(read_prompt),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": PROMPTS,
                    "items": {"type": "string"},
                },
                TOKEN_LIST,
                {"type": "array", "minItems": 1, "maxItems": PROMPTS, "items": TOKEN_LIST},
            ]
        }
    ),
]


class CompletionRequest(Request):
    """Texts to be continued."""

    prompt: Prompts
    """A text, texts, the tokens of one, or of several."""
    max_tokens: Annotated[Whole, Ge(0), Le(TOKENS)] | None = None
    """Tokens of an answer at most; 16 if nothing is said."""
    stop: stops(16) = None  # type: ignore[valid-type]
    """Strings that end the text; OpenAI takes 4, but lm-eval's tasks send more."""
    logprobs: Annotated[Whole, Ge(0), Le(5)] | None = None
    """Whether the probabilities of tokens are told, and of so many most probable ones."""
    echo: bool | None = None
    """Whether the prompt is given back in front of what continues it."""
    best_of: Annotated[Whole, Ge(1), Le(20)] | None = None
    """Choosing the best of more answers than are given back is not supported: as `n`, or none."""

    def job(self, id: str, card: ModelCard) -> Job:
        """What an engine is asked."""
        n = self.n or 1
        if self.best_of not in (None, n):
            raise ApiError(
                400,
                "unsupported_value",
                f"best_of: {self.best_of} answers for n: {n} is not supported; leave best_of out",
                "best_of",
            )
        if len(self.prompt) * n > PROMPTS:
            raise ApiError(
                400,
                "invalid_value",
                f"{len(self.prompt)} prompts with {n} choices each are more than {PROMPTS} texts; "
                "send them in several requests",
                "n",
            )
        self.check_tokens(card)
        sampling = self.sampling(MAX_TOKENS if self.max_tokens is None else self.max_tokens)
        if self.measures:
            sampling = replace(sampling, ignore_end=True)
        return Job(
            id=id,
            prompts=self.prompt,
            sampling=sampling,
            n=n,
            logprobs=self.logprobs,
            echo=bool(self.echo),
        )

    @property
    def measures(self) -> bool:
        """Whether only the prompt's log-probabilities are wanted, by way of one more token.

        lm-eval asks like that and takes the last token off unseen. So there must be one, even
        where the text ends: else it would take off the prompt's own (2026-11-22: 6.6 nats wrong).
        """
        return bool(self.echo) and self.logprobs is not None and self.max_tokens == 1

    def check_tokens(self, card: ModelCard) -> None:
        """Token numbers that the model does not have."""
        highest = max((max(p) for p in self.prompt if not isinstance(p, str)), default=0)
        if highest >= card.vocab_size:
            raise ApiError(
                400,
                "invalid_value",
                f"prompt: {card.id} has no token {highest}; its tokens are 0 to "
                f"{card.vocab_size - 1}",
                "prompt",
            )
