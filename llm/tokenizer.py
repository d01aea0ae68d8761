"""Text to tokens and back, with sentencepiece; trained here or brought along as a `.model` file.

What `llm.tokenizer_trainer` makes is lossless (`normalize: none`): decode(encode(x)) == x for every
text with byte fallback, without it for every text whose tokens all occur. sentencepiece is not:
- its trainer never sees some characters (tab, newline, U+2585, NUL), so text is cut at them for
  training, and those that occur become tokens of their own; NUL cannot, and is spelled in bytes;
- it writes a space as U+2581 and cannot tell the two apart, so that character is spelled in bytes;
- its word model knows no line ends and spells the space of an unknown word as U+2581, so words are
  looked up here. Bare sentencepiece gives the same ids for all texts but these last two kinds.

Control symbols have ids but no text: nothing that a user writes encodes to one. On one core unigram
encodes about 20 MB/s, bpe 5, char 17, word 12, of which only the last is spent in this file.
"""

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llm.errors import ArtifactError, DataError
from llm.model_file import model_format, read_model_file

UNKNOWN = "<unk>"
BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
TURNS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
RESERVED = (UNKNOWN, BOS, EOS, PAD, *TURNS)
"""Pieces with ids 0 to 7 in every tokenizer trained here."""

GUARD = "\ufdd0"
"""Stands behind every bracket of a text that the chat template has written (llm/chat.py)."""

SPACE = "\u2581"
"""How sentencepiece writes a space inside a piece."""

WORD = re.compile(rf"{SPACE}?(?:[^{SPACE}\n\t\r]+|[\n\t\r])|{SPACE}")

HALF_PAIR = re.compile("[\ud800-\udfff]")


class Tokenizer:
    """A sentencepiece model in a file. Ships to other processes as its path and loads there."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        proto, self._model = read_model_file(self.path)
        self.vocab_size: int = self._model.vocab_size()
        self.unknown: int | None = self._model.unk_id()
        self.eos: int = self._model.eos_id()
        self.bos = existing(self._model.bos_id())
        self.pad = existing(self._model.pad_id())
        if self.eos < 0:
            raise ArtifactError(
                f"{self.path}: the tokenizer has no end-of-text token (eos), which separates "
                "documents; use one trained with eos_id set, or train one: remove tokenizer.file"
            )
        first = [self._model.id_to_piece(i) for i in range(min(len(RESERVED), self.vocab_size))]
        self._ours = tuple(first) == RESERVED
        self._format = model_format(proto)

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[Path]]:
        return Tokenizer, (self.path,)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text; neither bos nor eos is added."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, on this thread."""
        if not self._ours:
            return self._encode(list(texts), int)
        ids = self._encode_words(texts) if self._words else self._encode(list(texts), int)
        for i in self._with_marks(texts):
            ids[i] = self._encode_around_marks(texts[i])
        return ids

    def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode_batch` as int32 arrays; much cheaper than arrays made of lists."""
        if self._words:
            return [np.array(ids, np.int32) for ids in self.encode_batch(texts)]
        arrays = self._encode(list(texts), "numpy")
        for i in self._with_marks(texts):
            arrays[i] = np.array(self._encode_around_marks(texts[i]), np.int32)
        return arrays

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some tokens. Bytes that are no UTF-8 become U+FFFD, unknowns a sign."""
        return b"".join(map(Decoder(self).bytes, ids)).decode(errors="replace")

    @property
    def trained_here(self) -> bool:
        """Whether it is one of `llm.tokenizer_trainer`, reserved pieces first."""
        return self._ours

    @property
    def controls(self) -> dict[str, int]:
        """Ids of the reserved pieces, or what does their duty in a tokenizer of others.

        None of them if there are no tokens for turns: `llm.model_file.with_turns` adds them.
        """
        if self._ours:
            return {piece: id for id, piece in enumerate(RESERVED)}
        turns = {turn: self._model.piece_to_id(turn) for turn in TURNS}
        if not all(self._model.is_control(id) for id in turns.values()):
            return {}
        bos, pad = (self.eos if id is None else id for id in (self.bos, self.pad))
        return {BOS: bos, EOS: self.eos, PAD: pad, **turns}

    @property
    def unwritten(self) -> tuple[int, ...]:
        """Tokens that no text to be shown can hold: the unknown one, bos and pad."""
        ids = {self.unknown, self.bos, self.pad} - {self.eos, None}
        return tuple(sorted(id for id in ids if id is not None))

    def piece_bytes(self, id: int) -> bytes:
        """The bytes that a token stands for: none for control symbols, maybe half a character."""
        return self._bytes[id]

    def piece(self, id: int) -> str:
        """What a token is called in the tokenizer's file."""
        return self._model.id_to_piece(id)

    def plain_pieces(self) -> list[str]:
        """The characters in each token; none in control symbols, bytes and the unknown token."""
        model = self._model
        special = (model.is_control, model.is_byte, model.is_unknown, model.is_unused)
        ids = range(self.vocab_size)
        return ["" if any(f(i) for f in special) else model.id_to_piece(i) for i in ids]

    def byte_ids(self) -> dict[int, int]:
        """The token of each byte; empty without byte fallback."""
        model = self._model
        ids = filter(model.is_byte, range(self.vocab_size))
        return {int(model.id_to_piece(i)[3:5], 16): i for i in ids}  # "<0x41>"

    @cached_property
    def _bytes(self) -> list[bytes]:
        """The bytes of every token."""
        table = [piece.replace(SPACE, " ").encode() for piece in self.plain_pieces()]
        for byte, id in self._spelling.items():
            table[id] = bytes([byte])
        if self.unknown is not None:
            table[self.unknown] = self._model.decode([self.unknown]).encode()
        return table

    @property
    def _words(self) -> bool:
        """Whether words are looked up here: models of others keep sentencepiece's ways."""
        return self._ours and self._format.word

    @cached_property
    def _word_ids(self) -> dict[str, int]:
        """Ids of all words; bytes and control symbols are no words."""
        return {piece: i for i, piece in enumerate(self.plain_pieces()) if piece}

    @cached_property
    def _spelling(self) -> dict[int, int]:
        """`byte_ids`, worked out once."""
        return self.byte_ids()

    def _encode(self, texts: list[str], kind: Any) -> list[Any]:
        """sentencepiece's own batch encoding."""
        with whole_characters(texts):
            ids: list[Any] = self._model.encode(texts, return_type=kind, num_threads=1)
        return ids

    def _encode_words(self, texts: Sequence[str]) -> list[list[int]]:
        """Each word's token, with the space before it; unknown words are spelled."""
        with whole_characters(texts):
            normal = [self._model.normalize(text) for text in texts]
        return [[id for word in WORD.findall(text) for id in self._word(word)] for text in normal]

    def _word(self, word: str) -> list[int]:
        """A word's token, or its spelling."""
        known = self._word_ids.get(word)
        if known is not None:
            return [known]
        if self._spelling and len(word) > 1 and word.startswith(SPACE):
            return self._word(SPACE) + self._spell(word[1:])
        return self._spell(word)

    def _spell(self, text: str) -> list[int]:
        """A text as bytes, or as one unknown token."""
        spelling = self._spelling
        if spelling:
            return [spelling[byte] for byte in text.encode()]
        assert self.unknown is not None, "sentencepiece models have an unknown token"
        return [self.unknown]

    def _with_marks(self, texts: Sequence[str]) -> list[int]:
        """Which texts hold U+2581, that sentencepiece would take for spaces."""
        return [i for i, text in enumerate(texts) if SPACE in text] if self._ours else []

    def _encode_around_marks(self, text: str) -> list[int]:
        """The parts between the marks as ever, the marks spelled."""
        first, *rest = self.encode_batch(text.split(SPACE))
        mark = self._spell(SPACE)
        return first + [id for part in rest for id in (*mark, *part)]


@contextmanager
def whole_characters(texts: Iterable[str]) -> Iterator[None]:
    """Explains the failure of sentencepiece where a text is no UTF-8."""
    try:
        yield
    except (RuntimeError, TypeError, UnicodeError) as error:
        if not any(HALF_PAIR.search(text) for text in texts):
            raise
        raise DataError(
            "tokenizer: a text holds half a surrogate pair, which UTF-8 cannot express; "
            "replace it: text.encode(errors='replace').decode()"
        ) from error


class Decoder:
    """Tokens to text as they come: `feed` each, then `flush`. Never returns half a character.

    Some models of others put a space before a text and take it away again when they decode;
    `continues` says that these tokens do not begin a text, so that their first space stays.
    Bytes that are no UTF-8 become U+FFFD, or nothing where `broken` is "ignore".
    """

    def __init__(
        self, tokenizer: Tokenizer, *, continues: bool = False, broken: str = "replace"
    ) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(broken)
        self._strips = tokenizer._format.strips and not continues

    def feed(self, id: int) -> str:
        """The characters that this token completes."""
        return self._utf8.decode(self.bytes(id))

    def flush(self) -> str:
        """What is left at the end of the text: U+FFFD for a character that was never completed."""
        return self._utf8.decode(b"", final=True)

    def bytes(self, id: int) -> bytes:
        """The bytes of the next token, without the space that begins the text if that is a mark."""
        piece = self._tokenizer._bytes[id]
        if not self._strips or not piece:
            return piece
        mark = piece.startswith(b" ") and self._tokenizer.piece(id).startswith(SPACE)
        rest = piece[1:] if mark else piece
        self._strips = not rest and (not mark or self._tokenizer._format.strips_all)
        return rest


def existing(id: int) -> int | None:
    """An id, where sentencepiece says -1 for none."""
    return id if id >= 0 else None
