"""A mixture of experts takes the same steps however its batches are cut and its weights lie.

Its price is per row, so nothing of it depends on the cut. Rounding does, and a token whose two best
experts are as probable as each other to the last digit would go elsewhere; none of these does.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.llm.test_parallel import distance, steps_of
from tests.sharing import together
from tests.tasks import run_plain, write_task

MODEL = {"experts": 4, "hidden": 32, "kv_heads": 1, "qk_norm": True, "window": 12, "balance": 0.05}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A task, and a run of one process with one micro batch a step."""
    folder = tmp_path_factory.mktemp("whole")
    task = write_task(folder, steps=12, batch=6, micro_batch=6, model=MODEL)
    run_plain(task, folder / "one")
    return task, folder / "one"


def same(one: Path, two: Path) -> None:
    for figure in ("loss", "grad_norm"):
        assert np.abs(steps_of(two, figure) - steps_of(one, figure)).max() < 1e-5
    assert distance(one, two) < 1e-5
    assert steps_of(one, "loss")[-1] < steps_of(one, "loss")[0] - 0.1


@pytest.mark.slow
def test_accumulated_micro_batches_take_the_steps_of_the_batch(
    tmp_path: Path, whole: tuple[Path, Path]
) -> None:
    task, one = whole
    portions = tmp_path / "task.json"
    portions.write_text(task.read_text().replace('"micro_batch": 6', '"micro_batch": 1'))
    run_plain(portions, tmp_path / "two")
    same(one, tmp_path / "two")


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_take_the_steps_of_one(
    tmp_path: Path, whole: tuple[Path, Path], strategy: Any
) -> None:
    task, one = whole
    portions = tmp_path / "task.json"
    portions.write_text(task.read_text().replace('"micro_batch": 6', '"micro_batch": 2'))
    assert together("tests.sharing", portions, tmp_path / "two", 0, strategy=strategy) == 0
    same(one, tmp_path / "two")
