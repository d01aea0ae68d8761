"""A trained model as a folder that stands alone: weights, shape and tokenizer.

model.safetensors   parameters in fp32, tied ones once
model.json          {"model": ModelConfig, "vocab_size": ...}
tokenizer.model     sentencepiece; or tokenizer.foreign, one of transformers (llm/tokenizer_file.py)
"""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from llm.checkpoint import load_weights, save_weights
from llm.config import ModelConfig, model_from_json
from llm.errors import ArtifactError
from llm.families import Network, make_model
from llm.files import write_json
from llm.model import Transformer
from llm.tokenizer import Tokenizer
from llm.tokenizer_file import copy_tokenizer, read_tokenizer, tokenizer_in


def write_shape(folder: Path, model: ModelConfig, tokenizer: Path, vocab_size: int) -> None:
    """Put down what the weights of this folder belong to."""
    copy_tokenizer(tokenizer, folder)
    write_json(folder / "model.json", {"model": asdict(model), "vocab_size": vocab_size})


def write_model(folder: Path, model: torch.nn.Module) -> None:
    """Write the weights under a temporary name, then give them theirs."""
    temporary = folder / ".model.safetensors.tmp"
    save_weights(model, temporary)
    temporary.replace(folder / "model.safetensors")


def read_shape(folder: Path) -> tuple[ModelConfig, int]:
    """What the weights of a folder belong to: the model's config, and its vocabulary."""
    try:
        shape = json.loads((folder / "model.json").read_text())
        return model_from_json(shape["model"]), shape["vocab_size"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(
            f"{folder / 'model.json'}: not a readable model description ({error}); "
            "remove the folder and run the spec again"
        ) from error


def read_model(folder: Path, weights: Path | None = None) -> tuple[Transformer, Tokenizer]:
    """The decoder and the tokenizer of a folder; `weights` may name a checkpoint's instead."""
    model, tokenizer = read_network(folder, weights)
    if not isinstance(model, Transformer) or model.config.family != "decoder":
        raise ArtifactError(
            f"{folder}: holds a model of family {model.config.family}, which can only be trained, "
            "measured and asked to generate; this needs one of family decoder"
        )
    return model, tokenizer


def read_network(folder: Path, weights: Path | None = None) -> tuple[Network, Tokenizer]:
    """The same for a model of any family."""
    model = make_model(*read_shape(folder))
    load_weights(model, weights or folder / "model.safetensors")
    return model.eval(), read_tokenizer(tokenizer_in(folder))
