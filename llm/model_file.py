"""A sentencepiece `.model` file: the model in it, and what its own interface does not tell.

The file is one protobuf message (`sentencepiece_model.proto`). Its few fields that matter here are
read by hand in a millisecond for every thousand tokens, which saves a dependency on protobuf, whose
generated code has to fit the installed version.
"""

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


def fields(message: Any) -> dict[int, Any]:
    """Field numbers and last values of a protobuf message: integers, or bytes of anything else."""
    found: dict[int, Any] = {}
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        if key & 7 == 0:
            found[key >> 3], at = varint(message, at)
            continue
        length, at = varint(message, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
        found[key >> 3] = message[at : at + length]
        at += length
    return found


def varint(message: bytes, at: int) -> tuple[int, int]:
    """A protobuf integer at an offset, and the offset behind it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
