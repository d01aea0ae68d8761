"""A tokenizer of others, in transformers' form: byte-level BPE (GPT-2, Llama 3, Qwen) and the like.

`tokenizers` does the cutting; here its pieces get bytes, so that text is written and streamed as
with sentencepiece. What there is of a folder of transformers becomes one file, tokenizer.foreign:
a line of JSON that says which of its tokens do the duty of ours, and a line that is its
tokenizer.json with these changes:

- turns (`<|user|>` and so on) are added behind its tokens, where it has none by these names;
- control tokens are found in no text, nor do they swallow spaces beside them: what a user writes
  never is one. Tokens that were added but control nothing (`<think>`) stay text;
- nothing is put before or behind a text, which bos and eos are to us.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llm.errors import ArtifactError
from llm.model_file import ModelFormat
from llm.tokenizer import BOS, EOS, PAD, SPACE, Tokenizer, whole_characters

Json = dict[str, Any]

NAME = "tokenizer.foreign"

INSTALL = "install it: pip install -e '.[hf]' (or: pip install tokenizers)"


class ForeignTokenizer(Tokenizer):
    """A tokenizer.foreign. Ships to other processes as its path, as any tokenizer does."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.parts = read_foreign(self.path)
        self._fast = loaded(self.parts.description, self.path)
        self._fast.encode_special_tokens = True  # as text
        vocabulary: dict[str, int] = self._fast.get_vocab(with_added_tokens=True)
        self._pieces = {id: piece for piece, id in vocabulary.items()}
        self.vocab_size = max(self._pieces) + 1
        self._controls = {name: vocabulary[piece] for name, piece in self.parts.controls.items()}
        self.eos, self.bos, self.pad = (self._controls[name] for name in (EOS, BOS, PAD))
        unknown = self.parts.unknown
        self.unknown = None if unknown is None else vocabulary.get(unknown)
        self._ours = False
        strips = self.parts.strips
        self._format = ModelFormat(word=False, strips=strips, strips_all=False)

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[Path]]:
        return ForeignTokenizer, (self.path,)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        with whole_characters(texts):
            return [self._fast.encode(text, add_special_tokens=False).ids for text in texts]

    def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.array(ids, np.int32) for ids in self.encode_batch(texts)]

    @property
    def controls(self) -> dict[str, int]:
        return self._controls

    def piece(self, id: int) -> str:
        return self._pieces.get(id, "")

    def plain_pieces(self) -> list[str]:
        table = [piece.decode(errors="replace") for piece in self._bytes]
        return [piece.replace(" ", SPACE) for piece in table]

    def byte_ids(self) -> dict[int, int]:
        """The token of each byte that has one."""
        return {piece[0]: id for id, piece in enumerate(self._bytes) if len(piece) == 1}

    @cached_property
    def _bytes(self) -> list[bytes]:
        added = self._fast.get_added_tokens_decoder()
        return [self._bytes_of(id, added.get(id)) for id in range(self.vocab_size)]

    def _bytes_of(self, id: int, added: Any) -> bytes:
        """What a token is in a text: nothing, for one that controls or is missing."""
        if added is not None:
            return b"" if added.special else added.content.encode()
        if id == self.unknown or id not in self._pieces:
            return b""
        piece = self._pieces[id]
        if self.parts.byte_level:
            known = all(character in ALPHABET for character in piece)
            return bytes(ALPHABET[one] for one in piece) if known else piece.encode()
        if self.parts.byte_fallback and len(piece) == 6 and piece[:3] == "<0x":
            return bytes([int(piece[3:5], 16)])
        return piece.replace(SPACE, " ").encode()


def alphabet() -> dict[str, int]:
    """How GPT-2 writes bytes as characters: those that can be seen as themselves, then others."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + i): b for i, b in enumerate(hidden)}


ALPHABET = alphabet()


class Parts:
    """The two lines of a tokenizer.foreign, and what has to be known of the second."""

    def __init__(self, controls: dict[str, str], description: str) -> None:
        self.controls, self.description = controls, description
        whole: Json = json.loads(description)
        decoders = {step["type"]: step for step in steps(whole["decoder"], "decoders")}
        self.byte_level = "ByteLevel" in decoders
        self.byte_fallback = bool(whole["model"].get("byte_fallback"))
        self.strips = bool({"Strip", "Metaspace"} & set(decoders))
        self.unknown = unknown_of(whole["model"])
        self.added: list[Json] = whole["added_tokens"]

    @property
    def specials(self) -> list[str]:
        """The control tokens' names."""
        return [one["content"] for one in self.added if one["special"]]

    @property
    def texts(self) -> list[str]:
        """The names of added tokens that are text."""
        return [one["content"] for one in self.added if not one["special"]]

    def to_text(self) -> str:
        """The file's content."""
        return json.dumps(self.controls) + "\n" + self.description + "\n"


def steps(step: Json | None, inner: str) -> list[Json]:
    """A normalizer, pre-tokenizer or decoder as a list, whether it is a sequence or not."""
    if step is None:
        return []
    return list(step[inner]) if step["type"] == "Sequence" else [step]


def unknown_of(model: Json) -> str | None:
    """The piece that stands for what a model cannot express."""
    if model.get("unk_id") is not None:
        return str(model["vocab"][model["unk_id"]][0])
    return model.get("unk_token")


def read_foreign(path: Path) -> Parts:
    """The lines of a file."""
    try:
        first, second, *_ = path.read_text().split("\n")
        return Parts(json.loads(first), second)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path}: is no readable tokenizer ({error}); run the import stage again, or give the "
            "path of a tokenizer.json or of a sentencepiece .model file"
        ) from error


def loaded(description: str, path: Path) -> Any:
    """A description made into a `tokenizers.Tokenizer`."""
    try:
        import tokenizers
    except ImportError as error:
        raise ArtifactError(
            f"{path}: needs the package tokenizers, which is not installed; {INSTALL}"
        ) from error
    try:
        return tokenizers.Tokenizer.from_str(description)
    except Exception as error:  # the library raises nothing narrower
        raise ArtifactError(
            f"{path}: the library tokenizers {tokenizers.__version__} cannot read it ({error}); "
            "save it again with a newer transformers: tokenizer.save_pretrained(FOLDER)"
        ) from error
