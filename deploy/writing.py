"""A choice on its way out: tokens become whole characters, up to where the text ends."""

from collections.abc import Sequence
from functools import cached_property

from deploy.choosing import Best
from deploy.protocol import Ended, Event, Piece, Reason, TokenLogprob
from llm.generate import StopStrings
from llm.tokenizer import Decoder, Tokenizer


class Tokens:
    """What tokens look like to the caller."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def _shown(self) -> list[tuple[str, bytes]]:
        """Of every token its text, which for control tokens is their name, and its bytes."""
        names = {id: name for name, id in self.tokenizer.controls.items()}
        pieces = map(self.tokenizer.piece_bytes, range(self.tokenizer.vocab_size))
        return [
            (names.get(id) or piece.decode(errors="replace"), piece)
            for id, piece in enumerate(pieces)
        ]

    def told(self, token: int, logprob: float | None, best: Best) -> TokenLogprob:
        """A token with its log-probability and its rivals'."""
        top = tuple((*self._shown[other], value) for other, value in best)
        return TokenLogprob(*self._shown[token], logprob, top)


class Writing:
    """One choice: takes its tokens one by one, gives the events that follow from them."""

    def __init__(
        self,
        index: int,
        tokens: Tokens,
        *,
        ends: tuple[int, ...],
        limit: int,
        stop: tuple[str, ...],
        continues: bool,
    ) -> None:
        self.index, self.tokens, self.ends, self.left = index, tokens, ends, limit
        self.decoder = Decoder(tokens.tokenizer, continues=continues, broken="ignore")
        self.stop = StopStrings(stop)
        self.ended = False

    def begin(self) -> list[Event]:
        """Before the first token: nothing, or the end if none is wanted."""
        return [] if self.left else [self._finish("length")]

    def add(self, token: int, logprob: float | None, best: Best) -> list[Event]:
        """The events of a new token; `logprob` is None if it is not to be told."""
        if token in self.ends:
            return self._close("stop")
        self.left -= 1
        told = None if logprob is None else (self.tokens.told(token, logprob, best),)
        text = self.stop.feed(self.decoder.feed(token))
        piece = Piece(self.index, text, 1, told)
        if self.stop.found:
            return [piece, self._finish("stop")]
        if not self.left:
            return [piece, *self._close("length")]
        return [piece]

    def _close(self, reason: Reason) -> list[Event]:
        """What was held back as it could have become a stop string is text after all."""
        rest = self.stop.finish()
        held: list[Event] = [Piece(self.index, rest, 0)] if rest else []
        return [*held, self._finish(reason)]

    def _finish(self, reason: Reason) -> Ended:
        self.ended = True
        return Ended(self.index, reason)


def echo(
    index: int,
    tokens: Tokens,
    ids: Sequence[int],
    hidden: int,
    told: Sequence[tuple[float, Best]] | None,
) -> Piece:
    """A prompt as it is given back, with the log-probabilities of all its tokens but the first.

    `told` has one for every token behind the first; the first `hidden` tokens are not shown.
    """
    text = tokens.tokenizer.decode(ids[hidden:])
    if told is None:
        return Piece(index, text, 0)
    every = [tokens.told(ids[0], None, [])]
    every += [tokens.told(id, *one) for id, one in zip(ids[1:], told, strict=True)]
    return Piece(index, text, 0, tuple(every[hidden:]))
