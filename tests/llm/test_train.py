"""Trajectories: however a run is cut up, it takes the same steps."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from llm.batch import NextToken, parts_at
from llm.checkpoint import Position
from llm.config import ModelConfig, OptimConfig, TrainConfig
from llm.data import Block, Cursor
from llm.model import Transformer
from llm.optim import make_optimizer
from llm.outside import Wishes
from llm.train import StepReport, StreamEnded, Training, fit, own_slots
from llm.world import CPU, World
from tests.tasks import losses, run_plain, write_task

ROOT = Path(__file__).parents[2]
ALONE = World(0, 1, CPU)
VOCAB = 17


def blocks(size: int, count: int) -> list[Block]:
    """`count` x `size` fixed sequences in blocks of `size`, some of them short."""
    ids = np.random.default_rng(0).integers(0, VOCAB, (count * size, 9), dtype=np.int32)
    ids[::5, 6:] = -1
    parts = ids.reshape(count, size, 9)
    rows = np.arange(count * size).reshape(count, size)
    return [Block(part, row * 0, row) for part, row in zip(parts, rows, strict=True)]


def train(batches: list[Block], **changes) -> tuple[Training, list[StepReport]]:
    optim = OptimConfig(lr=changes.pop("lr", 1e-2), warmup=2)
    allows = changes.pop("allows", lambda *_: True)
    made = changes.pop("made", lambda _: None)
    settings = {"tokens": 1, "steps": 5, "batch": 8, "micro_batch": 8, **changes}
    config = TrainConfig(optim=optim, **settings)
    torch.manual_seed(0)
    dropout = settings.pop("dropout", 0.0)
    model = Transformer(
        ModelConfig(depth=1, width=16, heads=2, hidden=32, context=8, dropout=dropout), VOCAB
    )
    made(model)
    training = Training(model, make_optimizer(model, optim))
    reports: list[StepReport] = []
    fit(
        training,
        [NextToken(block, short_start=config.short_start) for block in batches],
        config,
        seed=1,
        world=ALONE,
        precision="fp32",
        wish=Wishes().take,
        allows=allows,
        after_step=reports.append,
    )
    return training, reports


def test_accumulated_micro_batches_equal_one_big_batch() -> None:
    whole, once = train(blocks(8, 5))
    parts, often = train(blocks(2, 20), micro_batch=2)
    assert [r.loss for r in often] == pytest.approx([r.loss for r in once], abs=1e-5)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_first_loss_of_a_fresh_model_is_that_of_guessing() -> None:
    _, reports = train(blocks(8, 5))
    assert reports[0].loss == pytest.approx(np.log(VOCAB), abs=0.05)
    assert reports[0].tokens == sum((b.ids[:, 1:] >= 0).sum() for b in blocks(8, 1))


def test_a_step_that_is_not_allowed_consumes_its_data_and_changes_no_weight() -> None:
    """Weights are looked at whenever the loop asks, before each update."""
    seen: list[torch.Tensor] = []
    model: list[torch.nn.Module] = []

    def allows(position: Position, loss: float, norm: float) -> bool:
        seen.append(torch.cat([p.detach().flatten() for p in model[0].parameters()]))
        return position.step != 2

    training, reports = train(blocks(8, 5), allows=allows, made=model.append)
    changed = [not torch.equal(a, b) for a, b in pairwise(seen)]
    assert changed == [True, True, False, True]
    assert [r.span for r in reports] == [r.span for r in train(blocks(8, 5))[1]]
    assert {float(state["step"]) for state in training.optimizer.state.values()} == {4.0}


def test_what_a_step_used_does_not_depend_on_micro_batches() -> None:
    _, once = train(blocks(8, 5))
    _, often = train(blocks(2, 20), micro_batch=2)
    assert [r.span for r in often] == [r.span for r in once]
    assert once[1].span.first == Cursor(0, 8)
    assert once[1].span.after == Cursor(0, 16)
    assert len({r.span.checksum for r in once}) == 5


def test_a_stream_that_skips_a_sequence_is_noticed() -> None:
    parts = blocks(8, 5)
    with pytest.raises(AssertionError, match="the stream goes on at"):
        train([parts[0], *parts[2:]])


@pytest.mark.parametrize(
    ("step", "parts"), [(0, 8), (9, 8), (10, 4), (19, 4), (20, 2), (29, 2), (30, 1), (99, 1)]
)
def test_rows_are_cut_into_eighths_then_quarters_then_halves(step: int, parts: int) -> None:
    assert parts_at(step, short_start=30) == parts
    assert parts_at(step, short_start=0) == 1


def test_a_short_start_learns_the_same_tokens_from_shorter_rows() -> None:
    _, plain = train(blocks(8, 5))
    _, short = train(blocks(8, 5), short_start=3)
    assert [r.span for r in short] == [r.span for r in plain]
    assert short[0].loss == pytest.approx(plain[0].loss, abs=0.05)
    assert short[0].loss != plain[0].loss


def test_a_stream_that_ends_early_is_noticed() -> None:
    with pytest.raises(StreamEnded, match="step 5"):
        train(blocks(8, 4))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_slots_are_dealt_in_turn(size: int) -> None:
    dealt = {slot: rank for rank in range(size) for slot in own_slots(4, World(rank, size, CPU))}
    assert dealt == {slot: slot % size for slot in range(4)}


@pytest.mark.slow
def test_two_workers_of_torchrun_take_the_steps_of_one(tmp_path: Path) -> None:
    task = write_task(tmp_path, steps=50, model={"dropout": 0.1})
    run_plain(task, tmp_path / "one")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    subprocess.run(
        [*torchrun, "--standalone", "-m", "llm.pretrain", str(task), str(tmp_path / "two")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    assert losses(tmp_path / "one")[-1] < losses(tmp_path / "one")[0] - 0.5
