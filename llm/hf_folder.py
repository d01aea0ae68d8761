"""A folder of transformers from the outside: what is in it, and a digest; loads no torch.

    config.json  model.safetensors, or several with model.safetensors.index.json
    tokenizer.json with tokenizer_config.json, or sentencepiece's tokenizer.model
    chat_template.jinja, of which only ours is used: models of others learn turns by sft

Weights are safetensors or nothing: a .bin is a pickle, which runs whatever code is in it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from llm.config import ModelConfig
from llm.errors import ArtifactError
from llm.hf_config import shape_of
from llm.hf_shape import Family
from llm.tokenizer import Tokenizer

Json = dict[str, Any]

ONE = "model.safetensors"
INDEX = "model.safetensors.index.json"

SAMPLES, SAMPLE_BYTES = 64, 1 << 16
"""Of a file of weights that its digest is made of, besides its head and its size."""


def read_json(path: Path) -> Json:
    """A JSON object."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); give a folder as transformers' save_pretrained "
            "writes it"
        ) from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: holds no JSON object; copy it again from its source")
    return value


def read_config(folder: Path, context: int = 0) -> tuple[Family, ModelConfig, Json]:
    """What a folder's config.json describes; `context`: tokens to see at once, 0: all."""
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder}: there is no such folder; give one as transformers' save_pretrained writes "
            "it, or fetch it: hf download NAME --local-dir FOLDER"
        )
    path = folder / "config.json"
    values = read_json(path)
    try:
        return *shape_of(values, path, context), values
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{path}: a field is of another type than transformers writes ({error}); copy it again "
            "from its source"
        ) from error


def weight_files(folder: Path) -> dict[str, str]:
    """The file of each tensor, where there are several; else ONE under an empty name."""
    index = folder / INDEX
    if index.exists():
        found = read_json(index).get("weight_map")
        if not isinstance(found, dict) or not found:
            raise ArtifactError(f"{index}: has no weight_map; copy it again from its source")
        for name, file in found.items():
            if not isinstance(file, str) or Path(file).name != file:
                raise ArtifactError(
                    f"{index}: weight_map.{name} {file!r} is not allowed; must be the name of a "
                    "file beside it"
                )
            if not (folder / file).exists():
                raise ArtifactError(
                    f"{folder / file}: is missing, where {INDEX} has {name}; fetch it, too"
                )
        return found
    if (folder / ONE).exists():
        return {"": ONE}
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise ArtifactError(
            f"{folder / pickles[0]}: weights in a pickle are not read, since a pickle can run any "
            f"code; allowed: {ONE}, or several with {INDEX}: save it with transformers, "
            "save_pretrained(FOLDER, safe_serialization=True)"
        )
    raise ArtifactError(f"{folder}: has no weights; allowed: {ONE}, or several with {INDEX}")


def tokenizer_file(folder: Path) -> Path:
    """The tokenizer of a folder: one that was trained here, else tokenizer.json if there is one."""
    ours = folder / "tokenizer.model"
    if ours.exists() and Tokenizer(ours).trained_here:
        return ours
    for name in ("tokenizer.json", "tokenizer.model"):
        if (folder / name).exists():
            return folder / name
    raise ArtifactError(
        f"{folder}: has no tokenizer; allowed: tokenizer.json or a sentencepiece tokenizer.model; "
        "save it there with transformers: AutoTokenizer.from_pretrained(NAME).save_pretrained("
        "FOLDER)"
    )


def digest(folder: Path) -> str:
    """A digest of all that an import reads, in well under a second whatever the size."""
    found = hashlib.sha256()
    small = ("config.json", "tokenizer_config.json", tokenizer_file(folder).name)
    for name in small:
        if (folder / name).exists():
            found.update(hashlib.sha256((folder / name).read_bytes()).digest())
    for name in sorted(set(weight_files(folder).values())):
        found.update(sampled(folder / name))
    return found.hexdigest()


def sampled(path: Path) -> bytes:
    """A digest of a file's size, its head, and samples all over it."""
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for number in range(SAMPLES):
            file.seek(number * max(0, size - SAMPLE_BYTES) // (SAMPLES - 1))
            found.update(file.read(SAMPLE_BYTES))
    return found.digest()
