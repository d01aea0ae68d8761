"""A model folder stands alone, and says what is wrong with it."""

from pathlib import Path

import pytest
import torch

from llm.artifact import read_model, write_model, write_shape
from llm.config import ModelConfig, TokenizerConfig
from llm.errors import ArtifactError
from llm.model import Transformer
from llm.tokenizer import Tokenizer
from llm.tokenizer_trainer import train

SHAPE = ModelConfig(depth=1, width=16, heads=2, hidden=32, context=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = TokenizerConfig(model="char", byte_fallback=False)
    train(["humpty dumpty"], config, tmp_path / "outside.model", seed=0)
    made = tmp_path / "made"
    made.mkdir()
    torch.manual_seed(0)
    vocab = Tokenizer(tmp_path / "outside.model").vocab_size
    write_shape(made, SHAPE, tmp_path / "outside.model", vocab)
    write_model(made, Transformer(SHAPE, vocab))
    (tmp_path / "outside.model").unlink()
    return made


def test_what_was_written_is_read_back(folder: Path) -> None:
    model, tokenizer = read_model(folder)
    torch.manual_seed(0)
    same = Transformer(SHAPE, tokenizer.vocab_size).eval()
    ids = torch.tensor([tokenizer.encode("humpty")])
    assert torch.equal(model(ids), same(ids))
    assert not model.training


def test_a_damaged_description_is_said(folder: Path) -> None:
    (folder / "model.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"model\.json: not a readable model description"):
        read_model(folder)


def test_missing_or_cut_off_weights_are_said(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"model\.safetensors: cannot be read"):
        read_model(folder)
    weights.unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors: cannot be read"):
        read_model(folder)
