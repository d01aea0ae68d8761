"""POST /v1/chat/completions: what may be asked, and the job that it makes."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen
from pydantic import FailFast, Field, PlainValidator, WithJsonSchema, model_validator

from deploy.errors import ApiError
from deploy.fields import Fields, Whole, like, wrong
from deploy.protocol import Job
from deploy.requests import TOKENS, Request
from llm.chat import ROLES, Conversation, Role, Turn

MESSAGES, PARTS = 4096, 256

ABSENT = ("refusal", "tool_calls", "function_call", "audio", "annotations")
"""Fields of answers that clients send back with the history, empty."""


def read_content(value: Any) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong("invalid_type", "must be a string or an array of text parts")
    if len(value) > PARTS:
        raise wrong("array_above_max_length", "has more than {most} parts", most=PARTS)
    return "".join(map(text_of, value))


def text_of(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind != "text":
        raise wrong(
            "unsupported_value",
            'has a part that is no text: parts are {"type": "text", "text": ...}',
        )
    if not isinstance(part.get("text"), str) or part.keys() != {"type", "text"}:
        raise wrong("invalid_value", 'has a text part that is not {"type": "text", "text": STRING}')
    return str(part["text"])


Content = Annotated[
    Any,
    PlainValidator(read_content),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "maxItems": PARTS,
                    "items": {
                        "type": "object",
                        "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                        "required": ["type", "text"],
                        "additionalProperties": False,
                    },
                },
            ]
        }
    ),
]


class Message(Fields):
    """What somebody said."""

    role: Literal["system", "developer", "user", "assistant"]
    """Who: developer is another word for system."""
    content: Content
    """What."""
    name: Annotated[str, Field(max_length=64)] | None = None
    """Accepted as OpenAI does; no model here was taught to tell people apart by it."""

    @model_validator(mode="before")
    @classmethod
    def check_names(cls, value: Any) -> Any:
        """Stop at the first unknown name, and say what is missing to have tools."""
        if not isinstance(value, dict):
            return value
        if value.get("role") in ("tool", "function"):
            raise wrong("unsupported_value", "has the role of a tool; there are no tools here")
        kept = {}
        for name, item in value.items():
            if name in cls.model_fields:
                kept[name] = item
            elif name not in ABSENT:
                raise wrong(
                    "unknown_parameter",
                    "has an unknown field: {name}{like}",
                    name=name[:64],
                    like=like(name, list(cls.model_fields)),
                )
            elif item not in (None, []):
                raise wrong(
                    "unsupported_parameter", "has {name}, which is not supported", name=name
                )
        return kept

    @property
    def turn(self) -> Turn:
        role: Role = "system" if self.role == "developer" else self.role
        assert role in ROLES
        return Turn(role, self.content)


class ChatRequest(Request):
    """A conversation to be answered."""

    messages: Annotated[list[Message], FailFast(), MinLen(1), Field(max_length=MESSAGES)]
    """What was said so far."""
    max_tokens: Annotated[Whole, Ge(1), Le(TOKENS)] | None = None
    """Tokens of an answer at most; none: as many as the context has room for."""
    max_completion_tokens: Annotated[Whole, Ge(1), Le(TOKENS)] | None = None
    """The newer name of `max_tokens`."""
    logprobs: bool | None = None
    """Whether the probabilities of tokens are told."""
    top_logprobs: Annotated[Whole, Ge(0), Le(20)] | None = None
    """Of so many most probable ones, too; only with `logprobs`."""
    truncation: Literal["auto", "disabled"] | None = None
    """What becomes of a conversation longer than the context: refused, or its oldest turns are left
    out and the answer says so."""

    def job(
        self, id: str, *, system: str = "", truncation: Literal["auto", "disabled"] = "disabled"
    ) -> Job:
        """What an engine is asked; `system` is for conversations that bring none."""
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError(
                400,
                "invalid_value",
                "top_logprobs: only allowed together with logprobs: true",
                "top_logprobs",
            )
        return Job(
            id=id,
            prompts=(with_system(system, [message.turn for message in self.messages]),),
            sampling=self.sampling(self.most()),
            n=self.n or 1,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            truncation=self.truncation or truncation,
        )

    def most(self) -> int | None:
        """The limit, by whichever of its two names."""
        given = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(given) == 2:
            raise ApiError(
                400,
                "invalid_value",
                f"max_tokens is {self.max_tokens} and max_completion_tokens "
                f"{self.max_completion_tokens}: they mean the same, send one of them",
                "max_tokens",
            )
        return next(iter(given), None)


def with_system(system: str, turns: Sequence[Turn]) -> Conversation:
    """Turns behind the system prompt of the server, unless they begin with their own."""
    brings = any(turn.role == "system" for turn in turns)
    return tuple(turns) if brings or not system else (Turn("system", system), *turns)
