"""A checkpoint is whole or it is not there."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from llm import checkpoint
from llm.checkpoint import Position
from llm.config import KeepConfig, ModelConfig, OptimConfig
from llm.data import Cursor
from llm.errors import ArtifactError
from llm.model import Transformer
from llm.optim import make_optimizer
from tests.saved import State, position

ROOT = Path(__file__).parent.parent.parent


def trained(width: int = 16) -> tuple[Transformer, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(depth=1, width=width, heads=2, hidden=32, context=8), 11)
    optimizer = make_optimizer(model, OptimConfig(lr=1e-2))
    model(torch.zeros(1, 8, dtype=torch.long), torch.ones(1, 8, dtype=torch.long)).backward()
    optimizer.step()
    return model, optimizer


def save(folder: Path, *steps: int) -> None:
    state = State()
    for step in steps:
        checkpoint.save(folder, state.at(step).model, state.optimizer, position(step))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
        assert optimizer.state[a].keys() == fresh.state[b].keys()
        for slot, value in optimizer.state[a].items():
            assert torch.equal(value, fresh.state[b][slot])


def test_the_newest_whole_checkpoint_is_found_and_damage_is_said(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 10)
    said: list[str] = []
    assert checkpoint.newest(tmp_path, said.append) == tmp_path / "step-000010"
    flip(tmp_path / "step-000010" / "model.safetensors")
    (tmp_path / "step-000002" / "manifest.json").unlink()
    assert checkpoint.newest(tmp_path, said.append) == tmp_path / "step-000001"
    assert "model.safetensors has changed since it was written" in said[0]
    assert "step-000002 is damaged (manifest.json is missing)" in said[1]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: dict[str, Callable[[Path], None]] = {
    "flipped": flip,
    "truncated": truncate,
    "emptied": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a dead link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_every_damage_is_noticed_and_its_file_is_named(tmp_path: Path, how: str, file: str) -> None:
    save(tmp_path, 1)
    DAMAGES[how](tmp_path / "step-000001" / file)
    wrong = checkpoint.damage(tmp_path / "step-000001")
    assert wrong is not None and file in wrong


MANIFESTS = (
    *("", "[]", "{}", "\0", "[" * 100_000),
    *('{"files": {}}', '{"files": []}', '{"files": {"nothing": "0"}}'),
    '{"files": {"model-x-of-y.safetensors": "0", "state.json": "0"}}',
)


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_broken_manifest_is_damage_not_a_crash(tmp_path: Path, manifest: str) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-000001" / "manifest.json").write_text(manifest)
    assert checkpoint.damage(tmp_path / "step-000001")


def test_other_folders_are_no_checkpoints(tmp_path: Path) -> None:
    save(tmp_path, 1, 1_000_000)
    for name in ("step-000001 (copy)", "step-", "step-x", ".step-000002.9.tmp"):
        (tmp_path / name).mkdir()
    assert [checkpoint.step_of(path) for path in checkpoint.steps(tmp_path)] == [1, 1_000_000]


def test_an_unfinished_save_is_never_found(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-000001").rename(tmp_path / ".step-000001.99.tmp")
    assert checkpoint.newest(tmp_path) is None
    checkpoint.prune(tmp_path, KeepConfig(), None)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("keep", "best", "kept"),
    [
        (KeepConfig(last=2), 2, [2, 5, 6]),
        (KeepConfig(last=1), None, [6]),
        (KeepConfig(last=1, best=False), 2, [6]),
        (KeepConfig(last=1, every=2), 3, [2, 3, 4, 6]),
        (KeepConfig(last=9), None, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_the_newest_the_best_and_every_so_manyth_stay(
    tmp_path: Path, keep: KeepConfig, best: int | None, kept: list[int]
) -> None:
    save(tmp_path, 1, 2, 3, 4, 5, 6)
    checkpoint.prune(tmp_path, keep, best)
    assert names(tmp_path) == [checkpoint.name_of(step) for step in kept]


def test_a_step_saved_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    save(tmp_path, 1)
    state = State().at(5)
    path = checkpoint.save(tmp_path, state.model, state.optimizer, position(1))
    assert checkpoint.damage(path) is None
    checkpoint.load(path, state.at(0).model, state.optimizer)
    assert state.step() == 5 and names(tmp_path) == ["step-000001"]


def test_weights_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    model, optimizer = trained()
    path = checkpoint.save(tmp_path, model, optimizer, Position(step=1))
    model, optimizer = trained(width=32)
    with pytest.raises(ArtifactError, match=r"embedding\.weight is \(11, 16\).*needs \(11, 32\)"):
        checkpoint.load(path, model, optimizer)


def test_the_manifest_lists_every_file(tmp_path: Path) -> None:
    save(tmp_path, 1)
    folder = tmp_path / "step-000001"
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert sorted(listed) == ["model.safetensors", "optimizer.safetensors", "state.json"]


# -- shared out ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_shared_model_moves_between_numbers_of_processes(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "tests.llm.shared_savers", str(tmp_path)]
    subprocess.run(run, check=True, timeout=600, cwd=ROOT)
    [path] = (tmp_path / "checkpoints").iterdir()
    assert len(list(path.glob("*-of-00003.safetensors"))) == 6
    state = State()
    checkpoint.load(path, state.model, state.optimizer)  # in one process alone
    values = [tensor.flatten().tolist() for _, tensor in sorted(state.tensors().items())]
    assert values == [[100 * i + j for j in range(len(v))] for i, v in enumerate(values)]


def test_a_lost_piece_is_damage(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "step-000001"
    manifest = json.loads((path / "manifest.json").read_text())
    digest = manifest["files"].pop("model.safetensors")
    manifest["files"]["model-00000-of-00002.safetensors"] = digest
    (path / "model.safetensors").rename(path / "model-00000-of-00002.safetensors")
    (path / "manifest.json").write_text(json.dumps(manifest))
    wrong = checkpoint.damage(path)
    assert wrong == "its manifest lists no model-00001-of-00002.safetensors"
