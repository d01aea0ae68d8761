"""The promise: whatever falls and whatever changes, the data comes in the one order, once."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.config import ClusterConfig
from llm.audit import audit
from llm.data import Cursor
from llm.errors import TrainingError
from llm.metrics import Event
from llm.order import Epochs
from llm.step_log import NAME, read_spans
from llm.task import PretrainTask, read_task, sequences_of
from llm.tokens import count_rows
from llm.units import units_of
from tests.tasks import losses, run_plain, write_task

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS = 3


@pytest.fixture
def task(ray_cluster: None, tmp_path: Path) -> PretrainTask:
    """Three epochs over a small corpus, its tokens kept."""
    from cluster.tokens import make_tokens

    base = read_task(write_task(tmp_path, documents=600, batch=12, micro_batch=2, save_every=20))
    make_tokens(base.data, Path(base.tokenizer), tmp_path / "tokens", lambda _: None)
    rows = count_rows(tmp_path / "tokens", base.model.context, base.seed, EPOCHS)
    assert rows % 12, "the last batch is to be a short one"
    train = replace(
        base.train, epochs=EPOCHS, steps=-(-rows // 12), validate_every=10**6, log_every=1
    )
    return replace(base, tokens=str(tmp_path / "tokens"), train=train)


def run(task: PretrainTask, cluster: ClusterConfig, fall_at: int | None) -> None:
    """Train on Ray until the end, or until a worker is killed and nobody starts it again."""
    from cluster.train import pretrain

    def watch(event: Event) -> None:
        if event["event"] == "start":
            pids.append(event["pid"])
        if event["event"] == "step" and event["step"] == fall_at:
            os.kill(pids[-1], signal.SIGKILL)

    pids: list[int] = []
    Path(task.folder).mkdir(exist_ok=True)
    pretrain(task, cluster, watch)


@pytest.mark.long
def test_three_epochs_over_a_fall_other_workers_and_prefetch_are_the_undisturbed_ones(
    task: PretrainTask, tmp_path: Path
) -> None:
    whole = replace(task, folder=str(tmp_path / "whole"))
    run_plain_task(whole)
    fallen = replace(task, folder=str(tmp_path / "fallen"))
    steps = task.train.steps
    with pytest.raises(TrainingError, match="fell once, 0 allowed"):
        two = ClusterConfig(workers=2, cpus_per_worker=1, read_ahead=8, max_failures=0)
        run(fallen, two, steps // 2)
    assert not (tmp_path / "fallen" / "model.safetensors").exists()
    run(fallen, ClusterConfig(workers=1, cpus_per_worker=1, read_ahead=500), None)

    assert (tmp_path / "fallen" / NAME).read_bytes() == (tmp_path / "whole" / NAME).read_bytes()
    assert losses(tmp_path / "fallen") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)
    write_record(fallen)
    proof = audit(tmp_path / "fallen", lambda _: None)
    assert proof.steps == steps
    units = range(len(units_of(task.data)))
    documents = sum(len(sequences_of(task).text.documents(unit)) for unit in units)
    assert [(one.epoch, one.documents, one.whole) for one in proof.passes] == [
        (epoch, documents, True) for epoch in range(EPOCHS)
    ]


def run_plain_task(task: PretrainTask) -> None:
    """The same without Ray and without a fall."""
    path = Path(task.folder).with_suffix(".json")
    write_record(task, path)
    run_plain(path, Path(task.folder))


def write_record(task: PretrainTask, path: Path | None = None) -> None:
    """What `jobs` leaves beside a training."""
    from llm.files import write_json

    write_json(path or Path(task.folder) / "task.json", task.to_json())


def test_the_last_batch_is_short_and_nothing_is_lost_in_it(
    task: PretrainTask, tmp_path: Path
) -> None:
    run_plain_task(replace(task, folder=str(tmp_path / "whole")))
    *_, (step, last) = read_spans(tmp_path / "whole")
    sequences = sequences_of(task)
    assert isinstance(sequences.order, Epochs)
    end = EPOCHS * sequences.order.positions
    assert step == task.train.steps
    assert last.after == Cursor(end, sequences.padding)
    assert 0 < sequences.padding < task.train.batch
