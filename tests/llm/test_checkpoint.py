"""A checkpoint is whole or it is not there."""

import json
from pathlib import Path

import pytest
import torch

from llm import checkpoint
from llm.checkpoint import Position
from llm.config import ModelConfig, OptimConfig
from llm.data import Cursor
from llm.errors import ArtifactError
from llm.model import Transformer
from llm.optim import make_optimizer


def trained(width: int = 16) -> tuple[Transformer, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(depth=1, width=width, heads=2, hidden=32, context=8), 11)
    optimizer = make_optimizer(model, OptimConfig(lr=1e-2))
    model(torch.zeros(1, 8, dtype=torch.long), torch.ones(1, 8, dtype=torch.long)).backward()
    optimizer.step()
    return model, optimizer


def save(folder: Path, *steps: int) -> None:
    model, optimizer = trained()
    for step in steps:
        checkpoint.save(folder, model, optimizer, Position(step=step, cursor=Cursor(3, step)))


def test_loading_restores_weights_optimizer_and_position(tmp_path: Path) -> None:
    model, optimizer = trained()
    position = Position(step=7, tokens=99, cursor=Cursor(2, 5), best_step=5, best_score=1.25)
    path = checkpoint.save(tmp_path, model, optimizer, position)
    other, fresh = trained()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    fresh.state.clear()
    assert checkpoint.load(path, other, fresh) == position
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        for slot, value in optimizer.state[a].items():
            assert torch.equal(value, fresh.state[b][slot])


def test_the_newest_whole_checkpoint_is_found_and_damage_is_said(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 10)
    said: list[str] = []
    assert checkpoint.newest(tmp_path, said.append) == tmp_path / "step-000010"
    weights = tmp_path / "step-000010" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (tmp_path / "step-000002" / "manifest.json").unlink()
    assert checkpoint.newest(tmp_path, said.append) == tmp_path / "step-000001"
    assert "model.safetensors has changed since it was written" in said[0]
    assert "step-000002 is damaged" in said[1]


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": {"nothing": "0"}}', "\0"])
def test_a_broken_manifest_is_damage_not_a_crash(tmp_path: Path, manifest: str) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-000001" / "manifest.json").write_text(manifest)
    assert checkpoint.newest(tmp_path, lambda _: None) is None


def test_an_unfinished_save_is_never_found(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-000001").rename(tmp_path / ".step-000001.99.tmp")
    assert checkpoint.newest(tmp_path) is None
    checkpoint.prune(tmp_path, 1, None)
    assert list(tmp_path.iterdir()) == []


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4, 5)
    checkpoint.prune(tmp_path, 2, best_step=2)
    assert [path.name[-1] for path in checkpoint.steps(tmp_path)] == ["2", "4", "5"]


def test_weights_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path, 1)
    model, optimizer = trained(width=32)
    with pytest.raises(ArtifactError, match=r"embedding\.weight is \(11, 16\).*needs \(11, 32\)"):
        checkpoint.load(tmp_path / "step-000001", model, optimizer)


def test_the_manifest_lists_every_file(tmp_path: Path) -> None:
    save(tmp_path, 1)
    folder = tmp_path / "step-000001"
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert sorted(listed) == ["model.safetensors", "optimizer.safetensors", "state.json"]
