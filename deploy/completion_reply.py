"""Answers of /v1/completions, whose log-probabilities come as four lists side by side."""

import codecs
from collections.abc import Sequence
from typing import Any

from deploy.protocol import Ended, Job, ModelCard, Piece, TokenLogprob
from deploy.reply import Choice, Reply, bounded


class Offsets:
    """Where tokens begin in a text, in characters; one that begins inside a character counts as
    beginning with it."""

    def __init__(self) -> None:
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.at = 0

    def of(self, tokens: Sequence[TokenLogprob]) -> list[int]:
        offsets = []
        for token in tokens:
            offsets.append(self.at)
            self.at += len(self.decoder.decode(token.bytes))
        return offsets


class CompletionReply(Reply):
    """Of /v1/completions."""

    whole_object = chunk_object = "text_completion"

    def __init__(self, job: Job, card: ModelCard, *, include_usage: bool) -> None:
        super().__init__(job, card, include_usage=include_usage)
        self.offsets = [Offsets() for _ in self.choices]

    def choice(self, index: int, choice: Choice) -> dict[str, Any]:
        return {
            "index": index,
            "text": choice.text,
            "logprobs": self.logprobs(index, choice.logprobs),
            "finish_reason": choice.reason,
        }

    def addition(self, piece: Piece) -> dict[str, Any]:
        return {
            "index": piece.index,
            "text": piece.text,
            "logprobs": self.logprobs(piece.index, piece.logprobs or ()),
            "finish_reason": None,
        }

    def closing(self, ended: Ended) -> dict[str, Any]:
        return {"index": ended.index, "text": "", "logprobs": None, "finish_reason": ended.reason}

    def logprobs(self, index: int, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if self.job.logprobs is None:
            return None
        return {
            "tokens": [token.token for token in tokens],
            "token_logprobs": [bounded(token.logprob) for token in tokens],
            "top_logprobs": [alternatives(token) for token in tokens],
            "text_offset": self.offsets[index].of(tokens),
        }


def alternatives(token: TokenLogprob) -> dict[str, float | None] | None:
    """The most probable tokens and the one that was taken; of a first token nothing is known."""
    if token.logprob is None:
        return None
    best = {text: bounded(logprob) for text, _, logprob in token.top}
    return best if token.token in best else best | {token.token: bounded(token.logprob)}
