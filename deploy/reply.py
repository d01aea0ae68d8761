"""What an engine's events become: the chunks of a stream, or one object when all are in.

    Begun -> opening chunks, Piece -> a chunk, Ended -> a closing chunk, then usage if asked for

Pure: no I/O. How a choice looks is told by the two subclasses.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.protocol import Begun, Ended, Event, Job, ModelCard, Piece, Reason, TokenLogprob

LOWEST = -9999.0
"""What OpenAI says in place of minus infinity, which JSON does not have."""


@dataclass
class Choice:
    """What came of one choice."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: Reason | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)


class Reply:
    """The answer to a job on its way."""

    whole_object: str
    chunk_object: str

    def __init__(self, job: Job, card: ModelCard, *, include_usage: bool) -> None:
        self.job, self.card, self.include_usage = job, card, include_usage
        self.created = int(time.time())
        self.begun = Begun(0)
        self.written = 0
        self.choices = [Choice() for _ in range(job.n * len(job.prompts))]

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        """A complete choice."""
        raise NotImplementedError

    def opening(self) -> Iterator[dict[str, Any]]:
        """What is told of choices before their first piece."""
        return iter(())

    def addition(self, piece: Piece) -> dict[str, Any]:
        """What a piece adds to a choice."""
        raise NotImplementedError

    def closing(self, ended: Ended) -> dict[str, Any]:
        """The end of a choice."""
        raise NotImplementedError

    def note(self, event: Event) -> None:
        """Count, whatever becomes of the event."""
        if isinstance(event, Piece):
            self.written += event.tokens
        elif isinstance(event, Begun):
            self.begun = event

    def take(self, event: Event) -> None:
        """Keep for the whole."""
        self.note(event)
        if isinstance(event, Piece):
            self.choices[event.index].texts.append(event.text)
            self.choices[event.index].logprobs += event.logprobs or ()
        elif isinstance(event, Ended):
            self.choices[event.index].reason = event.reason

    def whole(self) -> dict[str, Any]:
        """Everything at once."""
        choices = [self.choice(index, choice) for index, choice in enumerate(self.choices)]
        return self.head(self.whole_object) | {"choices": choices, "usage": self.usage}

    def chunks(self, event: Event) -> Iterator[dict[str, Any]]:
        """What a stream tells of an event; nothing of a piece with neither text nor logprobs."""
        self.note(event)
        if isinstance(event, Begun):
            yield from map(self.chunk, self.opening())
        elif isinstance(event, Piece) and (event.text or event.logprobs):
            yield self.chunk(self.addition(event))
        elif isinstance(event, Ended):
            yield self.chunk(self.closing(event))

    def chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        """One choice of a stream; who asked for usage finds it null until the end."""
        usage = {"usage": None} if self.include_usage else {}
        return self.head(self.chunk_object) | {"choices": [choice]} | usage

    def last_chunk(self) -> dict[str, Any]:
        """Usage, without a choice."""
        return self.head(self.chunk_object) | {"choices": [], "usage": self.usage}

    def head(self, kind: str) -> dict[str, Any]:
        """What is the same in all chunks; what was left out of the conversation, if anything."""
        head = {
            "id": self.job.id,
            "object": kind,
            "created": self.created,
            "model": self.card.id,
            "system_fingerprint": self.card.artifact,
        }
        if self.begun.dropped_messages:
            head["truncation"] = {"dropped_messages": self.begun.dropped_messages}
        return head

    @property
    def headers(self) -> dict[str, str]:
        """The same for those who look at no body."""
        dropped = self.begun.dropped_messages
        return {"x-humpty-dropped-messages": str(dropped)} if dropped else {}

    @property
    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.begun.prompt_tokens,
            "completion_tokens": self.written,
            "total_tokens": self.begun.prompt_tokens + self.written,
            "prompt_tokens_details": {"cached_tokens": self.begun.cached_tokens},
        }


class ChatReply(Reply):
    """Of /v1/chat/completions."""

    whole_object, chunk_object = "chat.completion", "chat.completion.chunk"

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": choice.text, "refusal": None},
            "logprobs": self.logprobs(choice.logprobs),
            "finish_reason": choice.reason,
        }

    def opening(self) -> Iterator[dict[str, Any]]:
        for index in range(len(self.choices)):
            yield self.part(index, {"role": "assistant", "content": "", "refusal": None})

    def addition(self, piece: Piece) -> dict[str, Any]:
        return self.part(piece.index, {"content": piece.text}, self.logprobs(piece.logprobs))

    def closing(self, ended: Ended) -> dict[str, Any]:
        return self.part(ended.index, {}, reason=ended.reason)

    def part(
        self, index: int, delta: dict[str, Any], logprobs: Any = None, reason: Reason | None = None
    ) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def logprobs(self, tokens: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
        if self.job.logprobs is None:
            return None
        return {"content": [self.told(token) for token in tokens or ()], "refusal": None}

    @staticmethod
    def told(token: TokenLogprob) -> dict[str, Any]:
        def one(text: str, spelled: bytes, logprob: float | None) -> dict[str, Any]:
            return {"token": text, "logprob": bounded(logprob), "bytes": list(spelled)}

        return one(token.token, token.bytes, token.logprob) | {
            "top_logprobs": [one(*best) for best in token.top]
        }


def bounded(logprob: float | None) -> float | None:
    """A number that JSON has."""
    return None if logprob is None else max(logprob, LOWEST)
