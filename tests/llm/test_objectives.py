"""Every objective learns, measures, shows what it learned, and goes on exactly where it was."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llm.artifact import read_model, read_network
from llm.complete import complete
from llm.config import SamplingConfig
from llm.data import Block
from llm.errors import ArtifactError, SpecError, Stopped
from llm.metrics import Event, read_log, validation_line
from llm.outside import Outside, Wish
from llm.pretrain import pretraining
from llm.spelling import Words, letters, words_in
from llm.task import read_task
from llm.tokenizer import Tokenizer
from tests.sharing import together
from tests.tasks import losses, run_plain, write_task

OBJECTIVES: dict[str, dict[str, Any]] = {
    "window": {
        "model": {"family": "window", "window": 6},
        "prompt": "the king",
    },
    "masked": {
        "model": {"family": "encoder", "dropout": 0.1},
        "objective": "masked",
        "prompt": "the k[MASK]ng sat",
    },
    "spans": {
        "model": {"family": "encoder_decoder", "depth": 1},
        "objective": "spans",
        "prompt": "the k[MASK] sat on [MASK] wall",
    },
    "autoencode": {
        "model": {"family": "encoder_decoder", "depth": 1, "code": 8, "positions": "learned"},
        "objective": "autoencode",
        "prompt": "humpty sat",
    },
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """A task of each objective, and the folder of its undisturbed run of 12 steps."""
    made = {}
    for name, given in OBJECTIVES.items():
        folder = tmp_path_factory.mktemp(name)
        task = write_task(folder, documents=300, steps=12, save_every=5, validate_every=6, **given)
        run_plain(task, folder / "one")
        made[name] = (task, folder / "one")
    return made


def events(folder: Path, kind: str) -> list[Event]:
    return [event for event in read_log(folder / "metrics.jsonl") if event["event"] == kind]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_learns_and_tells_how_well(runs: dict, name: str) -> None:
    _, folder = runs[name]
    curve = losses(folder)
    assert curve[-1] < curve[0] - 0.1
    first, *_, last = events(folder, "validation")
    assert last["loss"] < first["loss"]
    if name == "window":
        assert "bits per byte" in validation_line(last)
        return
    # what frequencies alone tell does not change, and a fresh model knows less
    assert last["unigram"] == first["unigram"] < first["loss"]
    assert 1 < last["unigram"] < math.log(20)  # of the letters of `WORDS`
    assert f"(frequencies alone {last['unigram']:.3f})" in validation_line(last)
    shares = ("restored", "whole_words") if name == "autoencode" else ("filled",)
    assert all(0 <= last[share] <= 1 for share in shares)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_shows_what_it_makes_of_a_prompt(runs: dict, name: str) -> None:
    _, folder = runs[name]
    samples = events(folder, "sample")
    assert [event["step"] for event in samples] == [0, 6, 12]
    text = samples[-1]["text"]
    match name:
        case "masked":
            assert text.startswith("the k") and text.endswith("ng sat")
            assert len(text) == len("the king sat")
        case "spans":
            assert text.startswith("the k") and " sat on " in text and text.endswith(" wall")
            assert "[MASK]" not in text and len(text) > len("the k sat on  wall")
        case "autoencode":
            assert len(text.split(" ")) <= 2
        case "window":
            assert text


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_resumed_run_takes_the_steps_of_an_undisturbed_one(
    runs: dict, name: str, tmp_path: Path
) -> None:
    task, whole = runs[name]
    outside = Outside()

    def watch(event: Event) -> None:
        if event["event"] == "step" and event["step"] == 7:
            outside.wishes.ask(Wish.STOP)

    outside = replace(outside, emit=watch)
    run, _ = pretraining(replace(read_task(task), folder=str(tmp_path)), outside)
    with pytest.raises(Stopped):
        run.run()
    assert 7 <= len(losses(tmp_path)) < 12
    run_plain(task, tmp_path)
    assert losses(tmp_path) == losses(whole)
    assert (tmp_path / "order.tsv").read_bytes() == (whole / "order.tsv").read_bytes()
    one, two = (load_file(folder / "model.safetensors") for folder in (tmp_path, whole))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert events(tmp_path, "validation")[-1] == events(whole, "validation")[-1]


@pytest.mark.parametrize("name", ["masked", "spans", "autoencode"])
def test_the_update_does_not_depend_on_micro_batches(runs: dict, name: str, tmp_path: Path) -> None:
    task, _ = runs[name]
    record = json.loads(task.read_text())
    record["train"] |= {"micro_batch": 8, "steps": 12}
    record["model"]["dropout"] = 0.0
    other = tmp_path / "task.json"
    other.write_text(json.dumps(record))
    run_plain(other, tmp_path / "eight")
    record["train"]["micro_batch"] = 1
    other.write_text(json.dumps(record))
    run_plain(other, tmp_path / "one")
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "eight"), abs=1e-4)


WAYS = [
    pytest.param(
        name,
        strategy,
        marks=pytest.mark.slow
        if (name, strategy) in (("masked", "ddp"), ("spans", "fsdp"))
        else pytest.mark.long,
    )
    for name in OBJECTIVES
    for strategy in ("ddp", "fsdp")
]


@pytest.mark.parametrize(("name", "strategy"), WAYS)
def test_two_processes_take_the_steps_of_one(
    runs: dict, name: str, strategy: Any, tmp_path: Path
) -> None:
    task, one = runs[name]
    assert together("tests.sharing", task, tmp_path, 0, strategy=strategy) == 0
    assert losses(tmp_path) == pytest.approx(losses(one), abs=1e-4)
    ours, theirs = (events(folder, "validation")[-1] for folder in (tmp_path, one))
    assert ours == pytest.approx(theirs, abs=1e-3)


# -- what is made of prompts -----------------------------------------------------------------------

GREEDY = SamplingConfig(temperature=0.0)


def test_a_window_is_filled_with_what_one_can_read(runs: dict) -> None:
    model, tokenizer = read_network(runs["masked"][1])
    assert "".join(complete(model, tokenizer, "[MASK][MASK]", GREEDY)).isprintable()
    with pytest.raises(SpecError, match=r"'the king' has no gap .*write \[MASK\] where one is"):
        list(complete(model, tokenizer, "the king", GREEDY))
    with pytest.raises(SpecError, match="41 tokens, but this model sees 32; shorten it"):
        list(complete(model, tokenizer, "[MASK]" + 39 * "a", GREEDY))


def test_more_gaps_than_sentinels_are_refused(runs: dict) -> None:
    model, tokenizer = read_network(runs["spans"][1])
    with pytest.raises(SpecError, match="9 gaps, but this model knows at most 3"):
        list(complete(model, tokenizer, "[MASK]a" * 9, GREEDY))


def test_a_fill_in_is_the_same_every_time(runs: dict) -> None:
    model, tokenizer = read_network(runs["spans"][1])
    drawn = SamplingConfig(seed=3)
    texts = {"".join(complete(model, tokenizer, "the [MASK] sat", drawn)) for _ in range(2)}
    assert len(texts) == 1


def test_a_model_that_does_not_write_on_is_no_decoder(runs: dict) -> None:
    for name in ("window", "masked", "spans"):
        with pytest.raises(ArtifactError, match="this needs one of family decoder"):
            read_model(runs[name][1])


# -- words -----------------------------------------------------------------------------------------


def test_words_are_runs_of_letters_and_each_counts_once_a_row(runs: dict) -> None:
    tokenizer = Tokenizer(read_task(runs["autoencode"][0]).tokenizer)
    inside = letters(tokenizer)
    row = [tokenizer.eos, *tokenizer.encode("the egg the"), tokenizer.eos, -1]
    words = list(words_in(np.array(row), inside, 32))
    assert [tokenizer.decode(word) for word in words] == ["the", "egg", "the"]
    cut = [tokenizer.decode(word) for word in words_in(np.array(row), inside, 3)]
    assert cut == ["th", "e", "eg", "g", "th", "e"]
    portion = Words(Block(np.array([row, [-1] * len(row)]), *np.zeros((2, 2), int)), 2, inside)
    assert [tokenizer.decode(w[w != -1]) for w in portion.pairs.targets] == ["the", "egg", ""]
    assert portion.weight == 4 + 4 + 1
