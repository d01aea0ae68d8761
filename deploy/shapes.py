"""What answers look like, for the OpenAPI description. Nothing is checked against it at run time;
a test holds every kind of answer against it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from deploy.protocol import Reason


class Shape(BaseModel):
    """A JSON object; fields without a default are always there."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Error(Shape):
    """Why something was not done."""

    message: str
    """What was found, what is allowed, what to do."""
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    """The field that is wrong."""
    code: str | None


class ErrorBody(Shape):
    """Every error."""

    error: Error


class Model(Shape):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    """Tokens of its context."""
    chat: bool
    """Whether it was taught to talk."""
    artifact: str
    """Fingerprint of what is served."""


class ModelList(Shape):
    """All of them, the default first."""

    object: Literal["list"]
    data: list[Model]


class PromptDetails(Shape):
    """About the prompt."""

    cached_tokens: int
    """Not read again since they were remembered."""


class Usage(Shape):
    """Numbers of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Truncation(Shape):
    """What was left out of the conversation."""

    dropped_messages: int


class Head(Shape):
    """What all answers begin with."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    """The artifact that answered."""
    truncation: Truncation | None = None
    """Only if something was left out."""


class TopLogprob(Shape):
    """A token that might have been written."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(TopLogprob):
    """A token that was written."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Shape):
    """Of the tokens of an answer."""

    content: list[ChatToken]
    refusal: None


class ChatMessage(Shape):
    """An answer."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Shape):
    """One of `n`."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Reason


class ChatCompletion(Head):
    """An answer to a conversation."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: Usage


class Delta(Shape):
    """What is new."""

    role: Literal["assistant"] | None = None
    """In the first chunk of a choice."""
    content: str | None = None
    refusal: None = None


class ChatChunkChoice(Shape):
    """A piece of a choice."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: Reason | None


class ChatChunk(Head):
    """A piece of an answer."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    """In the last chunk, which has no choices, if it was asked for."""


class CompletionLogprobs(Shape):
    """Of the tokens of a text, in lists side by side."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Shape):
    """A text."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Reason | None


class Completion(Head):
    """Texts that continue prompts, whole or a piece of them."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: Usage | None = None
    """In a stream only in the last chunk, which has no choices, if it was asked for."""


class Health(Shape):
    """The process answers."""

    status: Literal["ok"]


class Ready(Shape):
    """Somebody can be answered."""

    status: Literal["ready"]
    models: list[str]
