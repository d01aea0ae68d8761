"""The whole recipe in one file: what an edit makes run again, and why, as the plan says it."""

import json
from pathlib import Path

import pytest

from jobs.facts import gather
from jobs.load import load
from jobs.plan import resolve
from tests.made import make

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """chatgpt.yaml with what it takes next to it, all of it run."""
    copy = tmp_path / "chatgpt.yaml"
    copy.write_text((JOBS / "chatgpt.yaml").read_text())
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "tale.txt").write_text("Once upon a time there was an egg.\n" * 40)
    chat = {
        "messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I"}]
    }
    (tmp_path / "chats.jsonl").write_text(json.dumps(chat) + "\n")
    pair = {"prompt": "Who?", "chosen": "I", "rejected": "Nobody"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    make(str(copy), f"storage={tmp_path / 'runs'}")
    return copy


def reasons(file: Path) -> dict[str, str]:
    """What will run, and why."""
    spec = load(str(file), [f"storage={file.parent / 'runs'}"])
    stages = resolve(spec, gather(spec)).stages
    return {one.name: one.reason for one in stages if one.status == "will run"}


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def test_what_was_run_is_not_run_again(file: Path) -> None:
    assert reasons(file) == {}
    edit(file, "# The whole recipe", "# The whole recipe, mine,")
    edit(file, 'prompt: "The"', 'prompt: "An"')  # only watched
    assert reasons(file) == {}


def test_an_edit_of_ppo_runs_ppo_and_what_follows_and_says_why(file: Path) -> None:
    edit(file, "kl: {target: 6.0}", "kl: {target: 3.0}")
    assert reasons(file) == {"ppo": "kl.target 6.0 -> 3.0", "evaluate": "'ppo' will run"}


def test_other_comparisons_run_the_reward_model_and_what_follows(file: Path) -> None:
    pairs = file.parent / "pairs.jsonl"
    pairs.write_text(pairs.read_text().replace("Nobody", "No one"))
    found = reasons(file)
    assert list(found) == ["reward", "ppo", "evaluate"]
    assert found["reward"] == "the data has changed" and found["ppo"] == "'reward' will run"


def test_more_cleaning_runs_everything(file: Path) -> None:
    edit(file, "phones: true", "phones: true, ips: true")
    found = reasons(file)
    assert found["corpus"] == "clean.ips false -> true"
    assert list(found) == ["corpus", "tokenizer", "pretrain", "sft", "reward", "ppo", "evaluate"]


@pytest.mark.parametrize("twin", ["chatgpt_en", "chatgpt_zh"])
def test_the_tiny_twins_are_the_same_recipe(twin: str) -> None:
    whole, tiny = load(str(JOBS / "chatgpt.yaml")), load(str(JOBS / "tiny" / f"{twin}.yaml"))
    assert [(name, one.kind) for name, one in tiny.stages.items()] == [
        (name, one.kind) for name, one in whole.stages.items()
    ]
    assert tiny.name == twin
