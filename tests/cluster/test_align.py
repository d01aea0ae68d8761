"""Instruction tuning on Ray: the steps of plain python, from files of conversations."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.config import ClusterConfig
from cluster.examples import ExampleSource, make_examples
from llm.align import align, new_task
from llm.align_config import ChatDataConfig, PreferenceDataConfig, SftConfig
from llm.align_task import AlignTask
from llm.config import CheckpointConfig, OptimConfig
from llm.errors import DataError
from llm.examples import Chats, Comparisons, rows_in
from llm.metrics import Event, read_log
from llm.outside import Outside
from tests.comparisons import SHAPE, write_start
from tests.tasks import losses, sentence

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def write_chats(path: Path, count: int = 60) -> None:
    """Questions and answers of one to three turns; one has nothing that could be learned."""
    source = random.Random(4)
    lines = [{"messages": [{"role": "user", "content": "nobody answers"}]}]
    for number in range(count):
        messages = []
        for _ in range(source.randint(1, 3)):
            messages.append({"role": "user", "content": f"{sentence(source)[:12]} {number}"})
            messages.append({"role": "assistant", "content": sentence(source)[:15]})
        lines.append({"messages": messages})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def source_of(folder: Path, **changes: Any) -> ExampleSource:
    """Where the conversations of a folder come from."""
    settings: dict[str, Any] = {
        "kind": "chat",
        "data": (ChatDataConfig(shards=(str(folder / "chats.jsonl"),)),),
        "tokenizer": str(folder / "start" / "tokenizer.model"),
        "room": SHAPE.context,
        "validation": 0.2,
    }
    return ExampleSource(**{**settings, **changes})


@pytest.fixture
def task(ray_cluster: None, tmp_path: Path) -> AlignTask:
    """An instruction tuning of three epochs, whose examples were made on Ray."""
    write_start(tmp_path / "start")
    write_chats(tmp_path / "chats.jsonl")
    source = source_of(tmp_path)
    make_examples(source, tmp_path / "examples", lambda _: None)
    config = SftConfig(
        data=source.data,
        batch=4,
        micro_batch=2,
        precision="fp32",
        validate_every=4,
        log_every=1,
        prompts=("humpty",),
        answer_tokens=8,
        optim=OptimConfig(lr=3e-3),
        checkpoint=CheckpointConfig(every=5),
    )
    start, examples = tmp_path / "start", tmp_path / "examples"
    return new_task("sft", tmp_path / "run", start, examples, config, seed=3)


def run_plain(task: AlignTask, folder: Path, watch: Any = lambda _: None) -> Event:
    folder.mkdir()
    return align(replace(task, folder=str(folder)), Outside(watch))


def run_ray(task: AlignTask, folder: Path, workers: int) -> Event:
    from cluster.align import align as align_on_cluster

    folder.mkdir()
    cluster = ClusterConfig(workers=workers, cpus_per_worker=1)
    return align_on_cluster(replace(task, folder=str(folder)), cluster, lambda _: None)


def test_examples_are_counted_and_held_out_by_their_question(
    task: AlignTask, tmp_path: Path
) -> None:
    index = json.loads((tmp_path / "examples" / "index.json").read_text())
    assert index["train"] + index["validation"] == 60
    assert 4 <= index["validation"] <= 20
    assert index["cut"] > 0
    assert sum(index["skipped"].values()) == 1
    held_out = Chats(rows_in(tmp_path / "examples", "validation"))
    assert len(held_out) == index["validation"]
    assert max(held_out.lengths) <= SHAPE.context + 1


def test_one_and_two_workers_take_the_steps_of_plain_python(
    task: AlignTask, tmp_path: Path
) -> None:
    plain = run_plain(task, tmp_path / "plain")
    one = run_ray(task, tmp_path / "one", 1)
    run_ray(task, tmp_path / "two", 2)
    assert losses(tmp_path / "one") == losses(tmp_path / "plain")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "plain"), abs=1e-4)
    assert one["loss"] == pytest.approx(plain["loss"])
    assert plain["loss"] < read_log(tmp_path / "plain" / "metrics.jsonl")[1]["loss"]
    for name in ("order.tsv", "chat_template.jinja", "model.json"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()


def test_a_run_that_fell_takes_the_same_steps(task: AlignTask, tmp_path: Path) -> None:
    run_plain(task, tmp_path / "whole")

    def fall(event: Event) -> None:
        if event["event"] == "step" and event["step"] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plain(task, tmp_path / "broken", fall)
    align(replace(task, folder=str(tmp_path / "broken")), Outside())
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    order = [(tmp_path / name / "order.tsv").read_bytes() for name in ("broken", "whole")]
    assert order[0] == order[1]


def test_a_bad_row_is_told_as_the_users_mistake(ray_cluster: None, tmp_path: Path) -> None:
    write_start(tmp_path / "start")
    (tmp_path / "chats.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    with pytest.raises(DataError, match=r"chats\.jsonl, line 1: .*messages"):
        make_examples(source_of(tmp_path), tmp_path / "examples", lambda _: None)
    assert not (tmp_path / "examples" / "index.json").exists()


def test_pairs_become_comparisons(ray_cluster: None, tmp_path: Path) -> None:
    write_start(tmp_path / "start")
    row = {"prompt": "humpty", "chosen": "sat", "rejected": "on a wall"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    data = (PreferenceDataConfig(shards=(str(tmp_path / "pairs.jsonl"),)),)
    source = source_of(tmp_path, kind="comparison", data=data, validation=0.0)
    make_examples(source, tmp_path / "examples", lambda _: None)
    [one] = Comparisons(rows_in(tmp_path / "examples", "train"))
    assert one.scores[0] > one.scores[1]
    assert len(one.sequences[0]) < len(one.sequences[1])
