"""A tokenizer as llama.cpp has it: kinds of tokens, scores or merges, and how text is cut first.

Byte-level BPE of others goes as "gpt2" with the name of its cut, unigram models trained here as
"t5", bpe models trained here as "llama"; char models as one or the other, for "llama" spells what
it does not know in bytes and ends where there are none. "t5" knows no bytes: in the export of a
unigram model that has them stands how it differs. What llama.cpp cannot cut the same otherwise is
an error: it knows cuts by name, not by their patterns. U+2581 in a text is a space to llama.cpp.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from llm.errors import ArtifactError
from llm.foreign_tokenizer import ForeignTokenizer, steps
from llm.hf_tokenizer import CHAR, UNIGRAM, WORD
from llm.model_file import fields, read_model_file
from llm.tokenizer import SPACE, Tokenizer

DIFFERS = (
    "llama.cpp reads characters without a token of their own as unknown, where here they are "
    "spelled in bytes; other text gives the same tokens; with a tokenizer of model: bpe all does"
)
"""Of unigram models with byte_fallback."""

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
"""Kinds of tokens in a file."""

LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CUTS = {LETTERS + r"\p{N}{1,3}" + REST: "llama-bpe", LETTERS + r"\p{N}" + REST: "qwen2"}
"""Patterns of Llama 3 and Qwen 2, and what llama.cpp calls them."""


class Described(NamedTuple):
    """What a file says of a tokenizer."""

    model: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    scores: list[float]
    merges: list[str]
    normalizer: bytes
    """sentencepiece's table of characters; empty: none."""
    differs: str = ""
    """Where llama.cpp cuts otherwise, and the remedy."""


def described(tokenizer: Tokenizer) -> Described:
    """Any tokenizer that llama.cpp has a way to cut like."""
    if isinstance(tokenizer, ForeignTokenizer):
        return of_others(tokenizer)
    return of_ours(tokenizer)


def of_others(tokenizer: ForeignTokenizer) -> Described:
    """Byte-level BPE."""
    whole: dict[str, Any] = json.loads(tokenizer.parts.description)
    if not tokenizer.parts.byte_level or whole["model"]["type"] != "BPE":
        raise unlike(tokenizer.path, "a tokenizer.json that is no byte-level BPE")
    added = {one["id"]: one["special"] for one in tokenizer.parts.added}
    tokens = [tokenizer.piece(id) for id in range(tokenizer.vocab_size)]
    kinds = [
        UNUSED if not piece else NORMAL if id not in added else CONTROL if added[id] else USER
        for id, piece in enumerate(tokens)
    ]
    merges = [one if isinstance(one, str) else " ".join(one) for one in whole["model"]["merges"]]
    names = [piece or f"[unused{id}]" for id, piece in enumerate(tokens)]
    return Described("gpt2", cut_of(whole, tokenizer.path), names, kinds, [], merges, b"")


def cut_of(whole: dict[str, Any], path: Path) -> str:
    """The name of the way in which text is cut before it is merged."""
    normal = [one["type"] for one in steps(whole["normalizer"], "normalizers")]
    cuts = steps(whole["pre_tokenizer"], "pretokenizers")
    first = cuts[0] if cuts else {}
    plain = not normal and not first.get("add_prefix_space")
    if first.get("type") == "ByteLevel" and first.get("use_regex") and plain:
        return "gpt-2"
    name = CUTS.get(first.get("pattern", {}).get("Regex", "")) if first else None
    if name is None or normal not in ([], ["NFC"]) or (normal == ["NFC"]) != (name == "qwen2"):
        raise unlike(path, "a byte-level BPE that cuts text otherwise")
    return name


def of_ours(tokenizer: Tokenizer) -> Described:
    """A sentencepiece model."""
    proto, model = read_model_file(tokenizer.path)
    sections = fields(proto)
    kind = fields(sections[2]).get(3, UNIGRAM)
    if not tokenizer.trained_here or kind == WORD:
        raise unlike(tokenizer.path, "a tokenizer of words, or a .model of others")
    ids = range(tokenizer.vocab_size)
    tests = {CONTROL: model.is_control, UNKNOWN: model.is_unknown, BYTE: model.is_byte}
    kinds = [next((kind for kind, test in tests.items() if test(id)), NORMAL) for id in ids]
    table: bytes = fields(sections.get(3, b"")).get(2, b"")
    spells = BYTE in kinds
    name = "t5" if kind == UNIGRAM or (kind == CHAR and not spells) else "llama"
    if name == "llama" and not spells:
        raise unlike(tokenizer.path, "a bpe model without byte_fallback")
    if name == "llama" and table:
        raise unlike(tokenizer.path, "a bpe or char model with byte_fallback and normalize: nfkc")
    tokens = [model.id_to_piece(id).replace(" ", SPACE) for id in ids]
    scores = [model.get_score(id) for id in ids]
    differs = DIFFERS if name == "t5" and spells else ""
    return Described(name, "default", tokens, kinds, scores, [], table, differs)


def unlike(path: Path, what: str) -> ArtifactError:
    """Why a tokenizer cannot go to llama.cpp."""
    return ArtifactError(
        f"{path}: {what} has no counterpart in llama.cpp; allowed: unigram, bpe and char trained "
        "here, and byte-level BPE as of GPT-2, Llama 3 or Qwen 2; write format: transformers"
    )
