"""The rehearsal: what its toy keeps of a spec, how it injects falls, what it calls a failure."""

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cluster.config import ClusterConfig
from jobs.facts import gather
from jobs.load import load
from jobs.plan import resolve
from jobs.planned import Plan
from jobs.rehearse import chosen_of
from jobs.rehearse_compare import TOLERANCE, Comparison, steps_differ
from jobs.rehearse_falls import FALLS, disk_for, fill, flip_a_bit, slow_disk
from jobs.rehearse_show import Outcome, showing, summary, table
from jobs.rehearse_slices import DOCUMENT, ROWS, TEXT, Slices
from jobs.rehearse_toy import STEPS, toy, written
from jobs.rehearse_trial import Skipped
from jobs.spec import Spec
from jobs.stages import PretrainStage
from llm.config import KeepConfig, TextConfig
from llm.errors import SpecError
from tests.tasks import sentence, write_text

ROOT = Path(__file__).parents[2]

SPEC = """\
name: mine
seed: 7
cluster: {workers: [1, 16], strategy: ddp, gpus_per_worker: 1}
data: {shards: text, validation: {fraction: 0.1}}
stages:
  tokenizer: {kind: tokenizer, vocab_size: 32000}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    model: {depth: 24, context: 2048, positions: learned, dropout: 0.1}
    tokens: 100_000_000_000
    checkpoint: {every: 5000, keep: {last: 3, every: 20000}}
    faults: {not_finite: skip}
    prompt: Once
  sft: {kind: sft, from: pretrain, data: &chats [
    {shards: chats.jsonl, columns: {question: q}, schema: question_answer}]}
  reward: {kind: reward, from: sft, data: [{shards: pairs.jsonl}]}
  ppo: {kind: ppo, from: sft, reward: reward, data: *chats}
  generate: {kind: generate, from: ppo, prompts: Once}
  serve: {kind: serve, from: ppo}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, Slices]:
    """The toy of a spec that is none."""
    folder = tmp_path_factory.mktemp("mine")
    write_text(folder / "text")
    source = random.Random(1)
    rows = [{"q": f"{sentence(source)} {n}", "answer": sentence(source)} for n in range(500)]
    pair = {"prompt": "who", "chosen": "the king", "rejected": "the men"}
    for name, all_rows in (("chats", rows), ("pairs", [pair] * 10)):
        text = "".join(json.dumps(row) + "\n" for row in all_rows)
        (folder / f"{name}.jsonl").write_text(text)
    (folder / "mine.yaml").write_text(SPEC)
    (folder / "slices").mkdir()
    spec = load(str(folder / "mine.yaml"))
    slices = Slices(folder / "slices", spec)
    return toy(spec, slices), slices


def planned(spec: Spec, folder: Path, stage: str = "") -> Plan:
    (folder / "toy.yaml").write_text(written(spec, stage))
    again = load(str(folder / "toy.yaml"), [f"storage={folder / 'runs'}"])
    return resolve(again, gather(again))


# -- the toy ---------------------------------------------------------------------------------------


def test_the_toy_is_a_spec_that_can_be_planned_and_is_small(
    made: tuple[Spec, Slices], tmp_path: Path
) -> None:
    plan = planned(made[0], tmp_path)
    names = [stage.name for stage in plan.stages]
    assert names == ["tokenizer", "pretrain", "sft", "reward", "ppo"]
    pretrain = plan.by_name["pretrain"]
    assert pretrain.estimate and isinstance(pretrain.stage, PretrainStage)
    assert sum(pretrain.estimate.parameters.values()) < 250_000
    assert pretrain.stage.steps == STEPS
    assert 6 <= STEPS / pretrain.stage.checkpoint.every <= 10


def test_what_decides_how_it_recovers_stays_as_it_is_written(made: tuple[Spec, Slices]) -> None:
    spec, _ = made
    assert spec.cluster.workers == (1, 2)
    assert spec.cluster.gpus_per_worker == 0
    assert spec.cluster.max_failures == ClusterConfig().max_failures
    stage = spec.stages["pretrain"]
    assert isinstance(stage, PretrainStage)
    assert stage.checkpoint.keep == KeepConfig(last=3, every=20000)
    assert stage.faults.not_finite == "skip"
    assert (stage.model.positions, stage.model.dropout) == ("learned", 0.1)
    assert spec.seed == 7


def test_a_fall_of_one_stage_runs_just_what_it_builds_on(
    made: tuple[Spec, Slices], tmp_path: Path
) -> None:
    whole = planned(made[0], tmp_path)
    plan = planned(made[0], tmp_path, "sft")
    assert [stage.name for stage in plan.stages] == ["tokenizer", "pretrain", "sft"]
    same = plan.by_name["tokenizer"].fingerprint == whole.by_name["tokenizer"].fingerprint
    assert same, "or its artifact could not be taken over"


def texts_in(config: TextConfig) -> list[str]:
    lines = Path(config.shards[0]).read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


def test_it_has_a_part_of_the_specs_own_data(made: tuple[Spec, Slices]) -> None:
    spec, slices = made
    assert spec.data and slices.replaced == []
    assert sum(map(len, texts_in(spec.data))) <= TEXT
    stage: Any = spec.stages["sft"]
    rows = Path(stage.data[0].shards[0]).read_text().splitlines()
    assert len(rows) == ROWS and json.loads(rows[0]).keys() == {"q", "answer"}


def test_text_that_is_missing_is_named_and_replaced(
    tmp_path: Path, made: tuple[Spec, Slices]
) -> None:
    slices = Slices(tmp_path, made[0])
    texts = texts_in(slices.text(TextConfig(shards=("/none/*.txt",))))
    assert slices.replaced == ["/none/*.txt"]
    assert 0.9 * TEXT < sum(map(len, texts)) <= TEXT


def test_a_long_document_becomes_several(tmp_path: Path, made: tuple[Spec, Slices]) -> None:
    text = "".join(f"line {number}\n" for number in range(50_000))
    (tmp_path / "long.txt").write_text(text)
    config = TextConfig(shards=(str(tmp_path / "long.txt"),))
    texts = texts_in(Slices(tmp_path, made[0]).text(config))
    assert max(map(len, texts)) == DOCUMENT
    assert "".join(texts) == text[:TEXT]


def test_falls_are_chosen_by_name() -> None:
    assert chosen_of("all") == list(FALLS)
    assert chosen_of("node,driver") == ["node", "driver"]
    with pytest.raises(SpecError, match="'fire' is none; there are worker, node, data, driver"):
        chosen_of("driver,fire")


# -- falls -----------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_differs_by_one_bit(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"abc")
    (tmp_path / "large").write_bytes(bytes(1001))
    flip_a_bit(tmp_path)
    assert (tmp_path / "small").read_bytes() == b"abc"
    assert (tmp_path / "large").read_bytes() == bytes(500) + b"\1" + bytes(500)


def test_a_full_disk_takes_nothing_more(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    try:
        with disk_for("disk", storage):
            fill(storage / "filler")
            with pytest.raises(OSError, match="No space left"):
                (storage / "more").write_bytes(bytes(5000))
    except Skipped as reason:
        pytest.skip(str(reason))
    assert not os.path.ismount(storage)


def test_only_while_the_flag_is_there_a_sync_takes_its_time(tmp_path: Path) -> None:
    slow_disk(tmp_path / "path", tmp_path / "slow")
    program = (
        "import os, time; file = open('x', 'w'); start = time.monotonic(); os.fsync(file.fileno());"
        "print(time.monotonic() - start)"
    )

    def seconds() -> float:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "path")}
        command = [sys.executable, "-c", program]
        return float(subprocess.check_output(command, env=environment, cwd=tmp_path))

    assert seconds() < 0.4
    (tmp_path / "slow").touch()
    assert seconds() >= 0.5


# -- verdicts --------------------------------------------------------------------------------------


def log(*losses: float) -> dict[int, dict[str, Any]]:
    return {step: {"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)}


def test_steps_are_equal_to_the_last_digit_unless_workers_were_fewer() -> None:
    assert steps_differ(log(3.0, 2.0), log(3.0, 2.0), 0.0) is None
    found = steps_differ(log(3.0, 2.0000001), log(3.0, 2.0), 0.0)
    assert found == "step 2: loss 2.0000001 in place of 2.0"
    assert steps_differ(log(3.0, 2.00001), log(3.0, 2.0), TOLERANCE) is None
    assert steps_differ(log(3.0), log(3.0, 2.0), TOLERANCE) == "step 2 is in one log only"


EQUAL = Comparison(None, None, None)
DIFFERENT = Comparison("step 9: loss 2.5 in place of 2.4", "model.safetensors differs", None)
OUTCOMES = [
    Outcome("pretrain", "worker", 27, 8.25, 3, EQUAL),
    Outcome("pretrain", "disk full", skipped="only root can mount a small disk to be filled"),
    Outcome("pretrain", "checkpoint", 21, 118.0, 9, DIFFERENT, broken=DIFFERENT.difference),
]


def test_the_table_fits_80_columns_and_tells_each_verdict() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(table(OUTCOMES, ""))
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert lines == [
        "stage fall step up in redone losses weights ledger verdict",
        "pretrain worker 27 8.2 s 3 equal equal equal held",
        "pretrain disk full skipped",
        "pretrain checkpoint 21 118.0 s 9 differ differ equal BROKEN",
    ]


def test_an_interrupted_rehearsal_shows_what_it_found() -> None:
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt), showing(Console(file=out, width=80)) as show:
        show.doing("pretrain: worker")
        show.done(OUTCOMES[0])
        raise KeyboardInterrupt
    assert "equal   held" in out.getvalue()


def test_the_summary_says_what_to_do_next() -> None:
    held = summary(OUTCOMES[:2], 200, "python -m jobs run x.yaml")
    assert held.startswith("1 of 1 falls held in 3m 20s, 1 skipped; the longest recovery took 8 s")
    assert "pretrain, disk full: only root can mount" in held
    assert held.endswith("next: python -m jobs run x.yaml")
    broken = summary(OUTCOMES, 200, "python -m jobs run x.yaml")
    assert "1 of 2 falls held" in broken and "do not rely on it yet" in broken
    assert "jobs run" not in broken


# -- the whole of it -------------------------------------------------------------------------------


def rehearsed(spec: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", "rehearse", str(spec), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1800)


def write_spec(folder: Path, workers: int) -> Path:
    write_text(folder / "text")
    (folder / "x.yaml").write_text(f"""\
name: x
cluster: {{workers: {workers}}}
data: {{shards: text, validation: {{fraction: 0.05}}}}
stages:
  tokenizer: {{kind: tokenizer, model: char}}
  pretrain: {{kind: pretrain, tokenizer: tokenizer, model: {{depth: 12}}}}
""")
    return folder / "x.yaml"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_damaged_checkpoint_is_rehearsed(tmp_path: Path) -> None:
    spec = write_spec(tmp_path, workers=1)
    done = rehearsed(spec, "--falls", "damage")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("pretrain  ")]
    assert [row[-4:] for row in rows] == [["equal", "equal", "equal", "held"]]
    assert f"next: python -m jobs run {spec}" in done.stdout
    assert sorted(one.name for one in tmp_path.iterdir()) == ["text", "x.yaml"]


@pytest.mark.chaos
def test_all_falls_of_a_pretraining_hold(tmp_path: Path) -> None:
    done = rehearsed(write_spec(tmp_path, workers=2))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("held") == len(FALLS) + 1  # and in the summary
