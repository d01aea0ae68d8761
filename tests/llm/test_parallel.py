"""Several processes train one model: however they share it, they take the steps of one process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llm.align import align
from llm.align_config import SftConfig
from llm.align_task import AlignTask, Kind, loop_of
from llm.chat import Turn
from llm.config import CheckpointConfig, ModelConfig, OptimConfig
from llm.examples import CHAT, INDEX, chat_row
from llm.files import write_json
from llm.metrics import Event, read_log
from llm.model import Transformer
from llm.outside import Outside
from llm.parallel import gathered, idle_passes, parallelise, share_out
from llm.ragged import write_rows
from llm.world import CPU, World
from tests.comparisons import NONE, SHAPE, make_task, write_start
from tests.sharing import together
from tests.tasks import run_plain, write_task

MODEL = ModelConfig(depth=2, width=32, heads=2, hidden=64, context=32)


def steps_of(folder: Path, *figures: str) -> np.ndarray:
    """Figures of every step in a folder's log: (steps, figures)."""
    events = [event for event in read_log(folder / "metrics.jsonl") if event["event"] == "step"]
    assert [event["step"] for event in events] == list(range(1, len(events) + 1))
    return np.array([[event[figure] for figure in figures] for event in events])


def last_of(folder: Path, kind: str) -> Event:
    """The last event of a kind in a folder's log."""
    return [event for event in read_log(folder / "metrics.jsonl") if event["event"] == kind][-1]


def distance(one: Path, two: Path) -> float:
    """The largest difference between the weights of two artifacts."""
    a, b = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A task of 50 steps whose three micro batches do not divide by two, and one process's run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shape = {"dropout": 0.1, "tied": False, "bias": True, "norm": "layernorm"}
    task = write_task(folder, steps=50, batch=6, validate_every=20, save_every=20, model=shape)
    run_plain(task, folder / "one")
    return task, folder / "one"


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "share"), [("ddp", 1.0), ("fsdp", 0.5)])
def test_two_processes_take_the_steps_of_one(
    tmp_path: Path, undisturbed: tuple[Path, Path], strategy: Any, share: float
) -> None:
    task, one = undisturbed
    assert together("tests.sharing", task, tmp_path, 0, strategy=strategy) == 0
    for figure in ("loss", "grad_norm"):
        assert np.abs(steps_of(tmp_path, figure) - steps_of(one, figure)).max() < 1e-5
    assert steps_of(one, "loss")[-1] < steps_of(one, "loss")[0] - 0.3
    assert distance(tmp_path, one) < 1e-5
    bpb = [last_of(folder, "validation")["bpb"] for folder in (tmp_path, one)]
    assert bpb[0] == pytest.approx(bpb[1], abs=1e-5)
    weights = load_file(one / "model.safetensors").values()
    whole = 3 * sum(tensor.nbytes for tensor in weights)  # with AdamW's two moments
    for rank in range(2):
        held = json.loads((tmp_path / f"held-{rank}.json").read_text())
        assert held == pytest.approx(share * whole, rel=0.01)


@pytest.mark.slow
def test_layers_that_travel_in_bf16_take_the_steps_of_autocast(tmp_path: Path) -> None:
    task = write_task(tmp_path, steps=8)
    task.write_text(task.read_text().replace('"precision": "fp32"', '"precision": "bf16"'))
    run_plain(task, tmp_path / "one")
    assert together("tests.sharing", task, tmp_path / "two", 0, strategy="fsdp") == 0
    losses = [steps_of(tmp_path / name, "loss") for name in ("one", "two")]
    assert np.abs(losses[1] - losses[0]).max() < 1e-4
    dtypes = {tensor.dtype for tensor in load_file(tmp_path / "two/model.safetensors").values()}
    assert dtypes == {torch.float32}


@pytest.mark.slow
@pytest.mark.long
def test_a_run_goes_on_with_another_strategy_and_number_of_processes(
    tmp_path: Path, undisturbed: tuple[Path, Path]
) -> None:
    task, one = undisturbed
    assert together("tests.sharing", task, tmp_path, 18, strategy="ddp") != 0
    assert together("tests.sharing", task, tmp_path, 37, strategy="fsdp") != 0
    assert len(steps_of(tmp_path, "loss")) == 37
    run_plain(task, tmp_path)
    assert np.abs(steps_of(tmp_path, "loss") - steps_of(one, "loss")).max() < 1e-5
    assert distance(tmp_path, one) < 1e-5
    assert (tmp_path / "order.tsv").read_text() == (one / "order.tsv").read_text()


@pytest.mark.slow
@pytest.mark.long
def test_nodes_that_each_share_a_copy_out_take_the_steps_of_one_process(tmp_path: Path) -> None:
    one, four = tmp_path / "one", tmp_path / "four"
    # six micro batches are dealt to four processes; each layer is computed again
    train = {"steps": 12, "batch": 12, "save_every": 12, "recompute": "layers"}
    task = write_task(tmp_path, model={"dropout": 0.1}, **train)
    run_plain(task, one)
    assert together("tests.sharing", task, four, 6, strategy="hsdp", nodes=2) != 0
    pieces = sorted((four / "checkpoints/step-000006").glob("model-*"))
    assert len(pieces) == 4
    assert max(map(size, pieces[:2])) > 10 * max(map(size, pieces[2:]))  # copies are not written
    assert together("tests.sharing", task, four, 9, strategy="fsdp") != 0
    assert together("tests.sharing", task, four, 0, strategy="hsdp", nodes=2) == 0
    assert np.abs(steps_of(four, "loss") - steps_of(one, "loss")).max() < 1e-5
    assert distance(four, one) < 1e-5
    held = {json.loads((four / f"held-{rank}.json").read_text()) for rank in range(4)}
    whole = 3 * sum(one.nbytes for one in load_file(one / "model.safetensors").values())
    assert all(bytes_ == pytest.approx(0.5 * whole, rel=0.01) for bytes_ in held)


def size(path: Path) -> int:
    """Bytes of a file."""
    return path.stat().st_size


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_processes_whose_layers_are_compiled_take_the_steps_of_one(
    tmp_path: Path, strategy: Any
) -> None:
    task = write_task(tmp_path, steps=8, save_every=4, model={"dropout": 0.1})
    run_plain(task, tmp_path / "one")
    task.write_text(task.read_text().replace('"compile": false', '"compile": true'))
    assert together("tests.sharing", task, tmp_path / "two", 0, strategy=strategy) == 0
    losses = [steps_of(tmp_path / name, "loss") for name in ("one", "two")]
    assert np.abs(losses[1] - losses[0]).max() < 1e-4
    start = read_log(tmp_path / "two/metrics.jsonl")[0]
    assert start["event"] == "start" and start["compiled"]


@pytest.mark.long
def test_a_compiled_run_that_resumes_repeats_itself_to_the_bit(tmp_path: Path) -> None:
    task = write_task(tmp_path, steps=8, save_every=4, model={"dropout": 0.1}, compile=True)
    run_plain(task, tmp_path / "one")
    command = [sys.executable, "-m", "tests.tasks", str(task), str(tmp_path / "two"), "6"]
    assert subprocess.run(command, check=False).returncode == 9
    run_plain(task, tmp_path / "two")
    losses = [steps_of(tmp_path / name, "loss") for name in ("one", "two")]
    assert np.array_equal(*losses)
    assert distance(tmp_path / "one", tmp_path / "two") == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "reward", "dpo"])
def test_an_alignment_whose_weights_are_shared_out_takes_the_steps_of_one_process(
    tmp_path: Path, kind: Kind
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    task = sft_task(one) if kind == "sft" else comparison_task(one, kind)
    one.mkdir()
    align(task, Outside())
    write_json(tmp_path / "task.json", task.to_json())
    assert together("llm.align", tmp_path / "task.json", two, strategy="fsdp") == 0
    assert np.abs(steps_of(two, "loss") - steps_of(one, "loss")).max() < 1e-5
    assert distance(two, one) < 1e-5
    ends = [last_of(folder, "end") for folder in (one, two)]
    for figure in ends[0].keys() & {"loss", "accuracy", "best_step", "reward_mean", "reward_std"}:
        assert ends[1][figure] == pytest.approx(ends[0][figure], abs=1e-5)
    assert ("best_step" in ends[1]) == (kind == "reward")  # the last step did worse
    samples = [samples_of(folder) for folder in (one, two)]
    assert samples[0] == samples[1]
    assert bool(samples[0]) == (kind != "reward")


def samples_of(folder: Path) -> list[str]:
    """What the model answered in its validations."""
    events = read_log(folder / "metrics.jsonl")
    return [event["text"] for event in events if event["event"] == "sample"]


def comparison_task(folder: Path, kind: Kind) -> AlignTask:
    """Twenty comparisons at a high rate, every step being measured and saved."""
    prompts = {"prompts": ("humpty",), "answer_tokens": 4} if kind == "dpo" else {}
    return make_task(
        folder,
        "reward" if kind == "reward" else "dpo",
        count=20,
        micro_batch=2,
        validate_every=1,
        optim=OptimConfig(lr=3e-2, warmup=2, weight_decay=0.0, eps=1e-4),
        checkpoint=CheckpointConfig(every=1),
        **prompts,
    )


def sft_task(folder: Path) -> AlignTask:
    """An instruction tuning on nineteen conversations, two more being held out."""
    start, examples = folder.parent / "start", folder.parent / "examples"
    template = write_start(start)
    counts = {"train": 19, "validation": 2}
    for part, count in counts.items():
        talks = [(Turn("user", "king"), Turn("assistant", "egg " * (i % 4))) for i in range(count)]
        rows = [chat_row(talk, template, SHAPE.context, False).row for talk in talks]
        write_rows(examples / f"{part}-00000.safetensors", CHAT, [row for row in rows if row])
    write_json(examples / INDEX, {**counts, "skipped": {}})
    config = SftConfig(
        data=NONE,
        batch=4,
        micro_batch=2,
        precision="fp32",
        validate_every=2,
        log_every=1,
        prompts=("humpty",),
        answer_tokens=4,
        optim=OptimConfig(lr=3e-3, warmup=2),
    )
    return AlignTask(
        kind="sft",
        folder=str(folder),
        start=str(start),
        examples=str(examples),
        config=config,
        train=loop_of(config, 24),
        seed=3,
    )


def test_one_process_keeps_its_model_as_it_is() -> None:
    model, alone = Transformer(MODEL, 11), World(0, 1, CPU)
    share_out(model, alone, "fsdp", "bf16")
    assert parallelise(model, alone) is model
    with gathered(model):
        assert type(model) is Transformer
    assert all(type(parameter) is torch.nn.Parameter for parameter in model.parameters())


def test_whole_models_make_no_idle_passes() -> None:
    assert idle_passes(Transformer(MODEL, 11), 1, 3, World(1, 2, CPU)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["muon", "lion"])
def test_shared_matrices_learn_as_whole_ones_by_any_optimizer(tmp_path: Path, kind: str) -> None:
    """With an average of the weights and figures of every layer, which are shared out, too."""
    task = write_task(tmp_path, steps=6, batch=6, model={"tied": False})
    record = json.loads(task.read_text())
    record["train"]["statistics"] = 3
    record["train"]["optim"] |= {"kind": kind, "ema": 0.9, "z_loss": 1e-4, "lr": 1e-3}
    task.write_text(json.dumps(record))
    run_plain(task, tmp_path / "one")
    assert together("tests.sharing", task, tmp_path / "two", 0, strategy="fsdp") == 0
    one, two = tmp_path / "one", tmp_path / "two"
    for figure in ("loss", "grad_norm", "z_loss"):
        assert np.abs(steps_of(two, figure) - steps_of(one, figure)).max() < 1e-4
    assert distance(two, one) < 1e-4
    layers = [last_of(folder, "statistics")["layers"] for folder in (one, two)]
    for alone, shared in zip(*layers, strict=True):
        assert shared.pop("layer") == alone.pop("layer")
        known = {key: value for key, value in alone.items() if value is not None}
        assert shared.keys() == alone.keys()
        got = {key: shared[key] for key in known}
        assert got == pytest.approx(known, rel=1e-2)  # activations count an idle pass, too
