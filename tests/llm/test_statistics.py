"""Figures of layers: against autograd's own, seen to vanish, shown in the report, free when off."""

import json
import math
from pathlib import Path

import pytest
import torch

from llm.config import ModelConfig, OptimConfig
from llm.data import Cursor
from llm.metrics import read_log
from llm.model import Transformer
from llm.optim import make_optimizer
from llm.outside import Wish
from llm.statistics import Statistics, layer_of
from llm.step_log import Span
from llm.train import StepReport
from llm.training_report import write_report
from llm.world import CPU, World
from tests.tasks import run_plain, write_task

SHAPE = {"depth": 3, "width": 16, "heads": 2, "hidden": 24, "context": 8}


def report(step: int, norm: float) -> StepReport:
    return StepReport(step, 1.0, 0.1, norm, Span(Cursor(), Cursor(), 8, 0), 1.0, 0.0, Wish.NOTHING)


def looked_at(model: Transformer, clip: float = 0.0, lr: float = 1e-3) -> list[dict]:
    """The figures of one update."""
    optimizer = make_optimizer(model, OptimConfig(lr=lr, weight_decay=0.0))
    statistics = Statistics(model, optimizer, 5, clip, World(0, 1, CPU))
    statistics.expect(1)
    torch.manual_seed(1)
    ids = torch.randint(11, (2, 9))
    model(ids[:, :-1], ids[:, 1:]).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip or math.inf).item()
    optimizer.step()
    return statistics.take(report(1, norm))


def model(**choices) -> Transformer:
    torch.manual_seed(0)
    return Transformer(ModelConfig(**(SHAPE | choices)), 11)


def test_names_of_layers():
    names = ("blocks.0.mlp.up.weight", "blocks.11", "norm.weight", "encoder.blocks.1.norm.weight")
    assert [layer_of(name) for name in names] == ["1", "12", "norm", "encoder 2"]


def test_figures_are_those_of_weights_gradients_and_outputs():
    built = model()
    before = {name: p.detach().clone() for name, p in built.named_parameters()}
    figures = {one["layer"]: one for one in looked_at(built)}
    assert list(figures) == ["embedding", "1", "2", "3", "norm"]
    inside = [name for name in before if name.startswith("blocks.1.")]
    parameters = dict(built.named_parameters())

    def norm(tensors) -> float:
        return math.sqrt(sum(float(t.square().sum()) for t in tensors))

    two = figures["2"]
    weight = norm(before[n] for n in inside)
    assert two["weight"] == pytest.approx(weight)
    assert two["gradient"] == pytest.approx(norm(parameters[n].grad for n in inside))
    moved = norm(parameters[n] - before[n] for n in inside)
    assert two["update"] == pytest.approx(moved / weight)
    assert figures["norm"]["rms"] == pytest.approx(1.0, rel=3e-2)
    assert 1 < figures["norm"]["largest"] < 4


def test_gradients_are_told_as_they_were_before_clipping():
    clipped, free = looked_at(model(), clip=1e-3), looked_at(model())
    for one, other in zip(clipped, free, strict=True):
        assert one["gradient"] == pytest.approx(other["gradient"], rel=1e-2)


def test_steps_in_between_are_not_looked_at():
    built = model()
    optimizer = make_optimizer(built, OptimConfig(lr=1e-3))
    statistics = Statistics(built, optimizer, 5, 0.0, World(0, 1, CPU))
    for step, due in ((1, True), (2, False), (5, True), (6, False)):
        statistics.expect(step)
        assert bool(statistics.hooks) == due
        assert bool(built.blocks[0]._forward_hooks) == due


def gradients(built: Transformer) -> dict[str, float]:
    """The gradient of each layer."""
    return {one["layer"]: one["gradient"] for one in looked_at(built)}


def spoilt(part: str, factor: float) -> Transformer:
    """A model whose fresh matrices of one part are too small."""
    built = model(depth=8, tied=False)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.startswith(part) and parameter.dim() > 1:
                parameter *= factor
    return built


def test_vanishing_and_exploding_gradients_are_seen():
    """Products of matrices that are too small let nothing back; a norm of a stream that is too
    small blows up what comes back."""
    layers = [str(number) for number in range(1, 9)]
    sound = gradients(spoilt("blocks", 1.0))
    vanishing, exploding = gradients(spoilt("blocks", 1e-2)), gradients(spoilt("embedding", 1e-2))
    assert all(vanishing[layer] < 0.02 * sound[layer] for layer in layers)
    assert vanishing["norm"] == pytest.approx(sound["norm"], rel=0.5)
    assert exploding["embedding"] > 5 * sound["embedding"]


@pytest.mark.slow
def test_a_run_logs_them_and_its_report_draws_them(tmp_path: Path):
    task = write_task(tmp_path, steps=6)
    run_plain(task, tmp_path / "off")
    record = json.loads(task.read_text())
    record["train"]["statistics"] = 3
    task.write_text(json.dumps(record))
    run_plain(task, tmp_path / "on")
    logs = {name: read_log(tmp_path / name / "metrics.jsonl") for name in ("off", "on")}
    losses = {n: [e["loss"] for e in log if e["event"] == "step"] for n, log in logs.items()}
    assert losses["on"] == losses["off"]
    seen = [event["step"] for event in logs["on"] if event["event"] == "statistics"]
    assert seen == [1, 3, 6]
    assert not [event for event in logs["off"] if event["event"] == "statistics"]
    pages = {name: write_report(tmp_path / name).read_text() for name in logs}
    assert "Layer by layer" in pages["on"] and "Gradients of layers" in pages["on"]
    assert "Layer by layer" not in pages["off"]
