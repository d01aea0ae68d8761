"""The audit proves honest logs, catches dishonest ones, and answers questions."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llm.audit import Pass, audit, corpus_record, require_whole
from llm.data import Cursor
from llm.errors import ArtifactError
from llm.order import Epochs
from llm.step_log import NAME
from llm.task import read_task, sequences_of
from llm.trace import step_content, steps_of
from tests.tasks import run_plain, write_task


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of more than an epoch."""
    folder = tmp_path_factory.mktemp("audit")
    task = write_task(folder, steps=260, log_every=50)
    run_plain(task, folder / "run")
    document = {**json.loads(task.read_text()), "folder": str(folder / "run")}
    (folder / "run" / "task.json").write_text(json.dumps(document))
    return folder / "run"


def say(_: str) -> None:
    pass


def test_an_honest_run_is_proved(trained: Path) -> None:
    sequences = sequences_of(read_task(trained / "task.json"))
    assert isinstance(sequences.order, Epochs)
    result = audit(trained, say)
    assert (result.steps, result.sequences) == (260, 260 * 8)
    everything = [
        drawn for place in range(sequences.order.positions) for drawn in sequences.drawn(place)
    ]
    tokens = sum(len(drawn.ids) + 1 for drawn in everything)
    first, second = result.passes
    assert first == Pass("text", 0, len(everything), tokens, whole=True)
    assert result.tokens_of("text") == result.tokens == tokens + second.tokens
    assert not second.whole
    assert 0 < second.documents < len(everything)


def test_a_pass_that_is_not_what_the_ledger_counts_is_noticed(
    trained: Path, tmp_path: Path
) -> None:
    one, _ = audit(trained, say).passes
    ledger = tmp_path / "corpus.json"
    for documents in (one.documents, one.documents + 1):
        sources = {"a": {"train": {"documents": 1}}, "b": {"train": {"documents": documents - 1}}}
        ledger.write_text(json.dumps({"sources": sources}))
        if documents == one.documents:
            require_whole((one,), ledger)
        else:
            with pytest.raises(ArtifactError, match=f"read {one.documents} documents, not the"):
                require_whole((one,), ledger)


def test_only_a_corpus_stage_leaves_a_record_to_be_held_to(tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text("[]")  # a user's own file beside the text
    assert corpus_record(tmp_path / "train") is None
    (tmp_path / "ledger.json").write_text("{}")
    assert corpus_record(tmp_path / "train") == tmp_path / "corpus.json"
    assert corpus_record(tmp_path / "text") is None


def without_step_100(lines: list[str]) -> list[str]:
    return [*lines[:99], *lines[100:]]


def with_step_99_twice(lines: list[str]) -> list[str]:
    return [*lines[:99], lines[98].replace("99\t", "100\t", 1), *lines[100:]]


def with_another_checksum(lines: list[str]) -> list[str]:
    return [*lines[:99], lines[99].rpartition("\t")[0] + "\t0000000000\n", *lines[100:]]


def empty(lines: list[str]) -> list[str]:
    return []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_step_100, "after step 99 the log goes on at 101"),
        (with_step_99_twice, "step 100 took other data"),
        (with_another_checksum, "step 100 took other data"),
        (empty, "no step is logged yet"),
    ],
)
def test_a_log_that_was_tampered_with_is_not(
    trained: Path, tmp_path: Path, change: Callable[[list[str]], list[str]], message: str
) -> None:
    (tmp_path / "task.json").write_text((trained / "task.json").read_text())
    lines = (trained / NAME).read_text().splitlines(keepends=True)
    (tmp_path / NAME).write_text("".join(change(lines)))
    with pytest.raises(ArtifactError, match=message):
        audit(tmp_path, say)


def test_a_text_that_changed_after_the_run_is_noticed(trained: Path, tmp_path: Path) -> None:
    task = read_task(trained / "task.json")
    text = tmp_path / "text"
    text.mkdir()
    for path in Path(task.data.shards[0]).iterdir():
        (text / path.name).write_text(path.read_text().replace("egg", "ham"))
    other = replace(task, data=replace(task.data, shards=(str(text),)))
    (tmp_path / "task.json").write_text(json.dumps(other.to_json()))
    (tmp_path / NAME).write_text((trained / NAME).read_text())
    with pytest.raises(ArtifactError, match=r"step 1 took other data[\s\S]*text, the tokenizer"):
        audit(tmp_path, say)


def test_every_token_of_a_document_is_found_in_the_steps_that_saw_it(trained: Path) -> None:
    task = read_task(trained / "task.json")
    shard = sorted(Path(task.data.shards[0]).iterdir())[1]
    lines = shard.read_text().splitlines(keepends=True)
    for number in (0, 7, 400):
        text = json.loads(lines[number])["text"]
        name = f"{shard}#{sum(map(len, lines[:number]))}"
        seen = [sighting for sighting in steps_of(trained, name) if sighting.epoch == 0]
        assert sum(sighting.tokens for sighting in seen) == len(text) + 1
        found = [
            part.text
            for sighting in seen
            for part in step_content(trained, sighting.step)
            if part.document == name
        ]
        assert sorted("".join(found)) == sorted(text)
        assert all(part in text for part in found)


def test_the_content_of_a_step_is_the_batch(trained: Path) -> None:
    parts = step_content(trained, 3)
    rows = sequences_of(read_task(trained / "task.json")).rows(Cursor(0)).ids[16:24]
    assert {part.sequence for part in parts} == set(range(8))
    assert sum(len(part.text) for part in parts) == int((rows[:, 1:] > 2).sum())


def test_questions_without_answer_are_errors(trained: Path) -> None:
    with pytest.raises(ArtifactError, match="step 261 is not logged; there are 1 to 260"):
        step_content(trained, 261)
    with pytest.raises(ArtifactError, match=r"no document is called 'x'.*FILE#PLACE such as"):
        steps_of(trained, "x")
    with pytest.raises(ArtifactError, match=r"has no task\.json"):
        audit(trained / "checkpoints", say)
