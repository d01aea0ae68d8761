"""An artifact of ours as a folder of transformers, which loads without any code of ours.

    config.json  generation_config.json  model.safetensors, or several with an index
    tokenizer.json  tokenizer_config.json  chat_template.jinja, of a model that has learned to talk
    README.md

A reward model becomes a classifier of one class, whose score is the normalised reward but for a
constant, which no layer there adds: config.json has it as `reward_offset`.

Tensors are read, renamed and written one file at a time: memory holds one file's worth. What has no
exact counterpart there is an error before anything is written.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from llm.artifact import read_shape
from llm.chat import END
from llm.chat_artifact import is_chat
from llm.errors import ArtifactError
from llm.exchange_config import ExportConfig
from llm.files import write_atomic, write_json
from llm.hf_folder import INDEX, ONE
from llm.hf_names import Entry, entries, plain
from llm.hf_shape import CLASSIFIERS, Family, config_of, fitting_family
from llm.hf_tokenizer import write_tokenizer_json
from llm.model_card import Lineage, model_card
from llm.reward import NAME as REWARD
from llm.reward import read_normaliser
from llm.tokenizer import BOS, PAD, Tokenizer
from llm.tokenizer_file import read_tokenizer, tokenizer_in

Json = dict[str, Any]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

MEGABYTE = 1_000_000

Part = tuple[str, Entry, int]
"""A tensor of theirs: its name, and which part of which of ours it is."""


def export_model(
    artifact: Path, folder: Path, config: ExportConfig, lineage: Lineage = ()
) -> dict[str, Any]:
    """Fill `folder`; returns what there is to say about it."""
    model, vocab = read_shape(artifact)
    family = fitting_family(model, artifact / "model.json")
    scores = (artifact / REWARD).exists()
    tokenizer, chat = tokenizer_in(artifact), scores or is_chat(artifact)
    write_exact_tokenizer(tokenizer, folder, model.context, chat=chat)
    ids = token_ids(read_tokenizer(tokenizer), chat)
    described = {**config_of(model, family, vocab), **ids, "torch_dtype": torch_name(config)}
    wanted = list(entries(model, family, vocab))
    read: Reader = Reader(artifact / "model.safetensors")
    if scores:
        read = judge = RewardReader(artifact)
        wanted = [one for one in wanted if one.ours != "head.weight"]
        wanted.append(plain("score.weight", "score.weight", (1, model.width)))
        described |= judge.described(family)
    parts = [(name, one, number) for one in wanted for number, name in enumerate(one.theirs)]
    files = write_weights(read, folder, parts, config)
    if not scores:
        write_json(folder / "generation_config.json", ids)
    made = described["architectures"][0]
    card = model_card(model, made, config.dtype, chat, lineage, config.license)
    write_atomic(folder / "README.md", card)
    write_json(folder / "config.json", described)  # without it the folder is no model
    return {
        "vocab_size": vocab,
        "architecture": described["architectures"][0],
        "dtype": config.dtype,
        "files": len(files),
        "bytes": sum((folder / name).stat().st_size for name in files),
    }


def torch_name(config: ExportConfig) -> str:
    """`float32`"""
    return str(DTYPES[config.dtype]).removeprefix("torch.")


def write_exact_tokenizer(tokenizer: Path, folder: Path, context: int, *, chat: bool) -> None:
    """Write what gives the same ids; ArtifactError if there is no such thing."""
    if not write_tokenizer_json(tokenizer, folder, context, chat=chat):
        raise ArtifactError(
            f"{tokenizer}: a tokenizer of words, or a .model of others, has no tokenizer.json that "
            "gives the same ids; allowed: unigram, bpe and char, trained here, and those that came "
            "with a tokenizer.json"
        )


def token_ids(tokenizer: Tokenizer, chat: bool) -> Json:
    """Which tokens begin, end and fill up texts. A chat model's answers end by its turn's end."""
    ids = tokenizer.controls
    return {
        "bos_token_id": ids.get(BOS, tokenizer.bos),
        "eos_token_id": [ids[END], tokenizer.eos] if chat else tokenizer.eos,
        "pad_token_id": ids.get(PAD, tokenizer.pad),
    }


# -- weights ---------------------------------------------------------------------------------------


def write_weights(
    read: "Reader", folder: Path, parts: list[Part], config: ExportConfig
) -> list[str]:
    """One file, or several of `shard_mb` at most, and their index; returns the files' names."""
    dtype = DTYPES[config.dtype]
    groups = list(shards(parts, dtype.itemsize, config.shard_mb * MEGABYTE))
    names = [
        ONE if len(groups) == 1 else f"model-{at:05d}-of-{len(groups):05d}.safetensors"
        for at in range(1, len(groups) + 1)
    ]
    for name, group in zip(names, groups, strict=True):
        made = {
            theirs: converted(entry.part(read(entry.ours), number), theirs, dtype)
            for theirs, entry, number in group
        }
        save_file(made, folder / f".{name}.tmp", metadata={"format": "pt"})
        (folder / f".{name}.tmp").replace(folder / name)
    if len(groups) > 1:
        placed = {
            theirs: name for name, group in zip(names, groups, strict=True) for theirs, *_ in group
        }
        total = sum(size_of(part, dtype.itemsize) for part in parts)
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": placed})
    return names


class Reader:
    """The tensors of a file by name, None for one that is not there; the last one is kept."""

    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, framework="pt")
        self._there = set(self._file.keys())
        self._last: tuple[str, Tensor | None] = ("", None)

    def __call__(self, name: str) -> Tensor | None:
        if name != self._last[0]:
            self._last = (name, self._file.get_tensor(name) if name in self._there else None)
        return self._last[1]


class RewardReader(Reader):
    """The tensors of a reward model, and of its head the score of normalised rewards."""

    def __init__(self, artifact: Path) -> None:
        super().__init__(artifact / "model.safetensors")
        self._normaliser = read_normaliser(artifact / REWARD)

    def __call__(self, name: str) -> Tensor | None:
        if name == "score.weight":
            return self._file.get_tensor("head.weight") / self._normaliser.std
        return super().__call__(f"body.{name}")

    def described(self, family: Family) -> Json:
        """What is otherwise in the config.json of a classifier."""
        bias = self._file.get_tensor("head.bias")
        return {
            "architectures": [CLASSIFIERS[family]],
            "id2label": {"0": "reward"},
            "label2id": {"reward": 0},
            "reward_offset": self._normaliser(bias).item(),
        }


def converted(tensor: Tensor, name: str, dtype: torch.dtype) -> Tensor:
    """A tensor in the file's numbers; ArtifactError if they are too small for it."""
    made = tensor.to(dtype)
    if dtype == torch.float16 and not bool(made.isfinite().all()):
        raise ArtifactError(f"dtype fp16: {name} has values beyond it; write dtype: bf16 or fp32")
    return made


def shards(parts: list[Part], itemsize: int, most: int) -> Iterator[list[Part]]:
    """Tensors in a row that fit into a file together; a larger one has a file of its own."""
    group: list[Part] = []
    filled = 0
    for part in parts:
        size = size_of(part, itemsize)
        if group and filled + size > most:
            yield group
            group, filled = [], 0
        group.append(part)
        filled += size
    yield group


def size_of(part: Part, itemsize: int) -> int:
    """Bytes of a tensor in its file."""
    _, entry, number = part
    return itemsize * torch.Size(entry.shape_of(number)).numel()
