"""A sentencepiece `.model` file: the model in it, and what its own interface does not tell.

The file is one protobuf message (`sentencepiece_model.proto`). Its few fields that matter here are
read by hand in a millisecond for every thousand tokens, which saves a dependency on protobuf, whose
generated code has to fit the installed version.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece

from llm.errors import ArtifactError


@dataclass(frozen=True)
class ModelFormat:
    """How a model cuts text and joins it again."""

    word: bool
    """One token a word."""
    strips: bool
    """Decoding takes the first space away ..."""
    strips_all: bool
    """... and those that follow it."""


def read_model_file(path: Path) -> tuple[bytes, Any]:
    """A model file's content and the model in it."""
    remedy = "give the path of a sentencepiece .model file"
    try:
        proto = path.read_bytes()
        if not proto:  # which sentencepiece would take for "no model yet"
            raise ArtifactError(f"{path}: is empty; {remedy}")
        return proto, sentencepiece.SentencePieceProcessor(model_proto=proto)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}; {remedy}") from error
    except RuntimeError as error:
        what = "not a sentencepiece model, or a damaged one"
        raise ArtifactError(f"{path}: is {what} ({error}); {remedy}") from error


def model_format(proto: bytes) -> ModelFormat:
    """The few fields that are wanted of trainer_spec (2) and normalizer_spec (3)."""
    sections = fields(proto)
    trainer, normalizer = fields(sections.get(2, b"")), fields(sections.get(3, b""))
    dummy_prefix, strips_all = bool(normalizer.get(3, True)), bool(normalizer.get(4, True))
    return ModelFormat(trainer.get(3, 1) == 3, dummy_prefix or strips_all, strips_all)


SCORE_GRID = 64
"""Parts of a nat that scores are rounded to: 1.6 percent of a token's probability at most."""


def rounded_scores(proto: bytes) -> bytes:
    """The same model with scores that add up without error, so that ties are ties everywhere.

    A unigram model cuts a text into the likeliest tokens. sentencepiece adds up scores in 32 bits,
    `tokenizers` in 64, so where cuts are all but equally likely (a run of 26 spaces as 11 and 15 or
    as 15 and 11) they differ: in 3 of 1,762 portions of 1,000 characters of English and Chinese
    text; with these scores in none, and the number of tokens stays the same (2026).
    """
    rounded = bytearray(proto)
    for key, start, stop in spans(proto, 0, len(proto)):
        for inner, at, _ in spans(proto, start, stop) if key == 10 else ():  # field 1: a piece
            if inner == 21:  # field 2: its score
                (score,) = struct.unpack_from("<f", proto, at)
                struct.pack_into("<f", rounded, at, round(score * SCORE_GRID) / SCORE_GRID)
    return bytes(rounded)


def spans(message: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Keys (field number and kind) of a part of a message, and where their values lie."""
    while at < stop:
        key, at = varint(message, at)
        if key & 7 == 0:
            end = varint(message, at)[1]
        else:
            length, at = varint(message, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
            end = at + length
        yield key, at, end
        at = end


def fields(message: Any) -> dict[int, Any]:
    """Field numbers and last values of a protobuf message: integers, or bytes of anything else."""
    return {
        key >> 3: varint(message, start)[0] if key & 7 == 0 else message[start:stop]
        for key, start, stop in spans(message, 0, len(message))
    }


def varint(message: bytes, at: int) -> tuple[int, int]:
    """A protobuf integer at an offset, and the offset behind it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def with_controls(proto: bytes, names: Iterable[str]) -> bytes:
    """The same model with control symbols behind its pieces: repeated fields may be appended."""

    def message(name: str) -> bytes:
        text = name.encode()
        assert len(text) < 100, "lengths are written in one byte"
        # piece (1), score 0 as a float (2), type 3: control (3)
        piece = b"\x0a" + bytes([len(text)]) + text + b"\x15" + bytes(4) + b"\x18\x03"
        return b"\x0a" + bytes([len(piece)]) + piece

    return proto + b"".join(map(message, names))
