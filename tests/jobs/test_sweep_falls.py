"""The driver of a sweep is killed; weights move from one trial to another. `-m chaos`."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tests.driving import Place, until
from tests.jobs.test_sweep import times

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos]

SWEEP = """\
name: tiny
seed: 7
data: {shards: crawl.jsonl, validation: {fraction: 0.1, tokens: 4096}}
stages:
  tokenizer: {kind: tokenizer, vocab_size: 300}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    model: {depth: 2, width: 64, context: 64}
    batch: 8
    steps: 90
    validate_every: 10
    checkpoint: {every: 10}
  search:
    kind: sweep
    of: pretrain
    trials: 6
    space: {pretrain.optim.lr: {loguniform: [1e-5, 1e-1]}}
"""


def search_of(place: Place) -> Path:
    [folder] = (place.folder / "runs" / "tiny" / "search").iterdir()
    return folder


def best_of(place: Place) -> dict:
    return json.loads((search_of(place) / "manifest.json").read_text())["metrics"]["best"]


@pytest.mark.parametrize("search", ["random", "grid"])
def test_a_killed_driver_runs_no_trial_twice_and_finds_the_same(
    tmp_path: Path, search: str
) -> None:
    spec = SWEEP + f"    search: {search}\n    scheduler: none\n"
    if search == "grid":
        spec = spec.replace("loguniform: [1e-5, 1e-1]", "grid: [1e-5, 1e-4, 1e-3, 1e-2]")
        spec = spec.replace("    trials: 6\n", "")
    quiet, place = (Place(tmp_path / name).write(spec) for name in ("quiet", "place"))
    ran = quiet.end(quiet.start())
    assert ran.code == 0, ran.errors
    driver = place.start()
    until(
        lambda: len(list(place.folder.glob("runs/tiny/search/*/trials/*/result.json"))) > 1, driver
    )
    driver.kill()
    driver.wait()
    before = times(search_of(place))
    ran = place.end(place.start())
    assert ran.code == 0, ran.errors
    after = times(search_of(place))
    assert {name: after[name] for name in before} == before
    assert best_of(place)["point"] == best_of(quiet)["point"]
    assert best_of(place)["figure"] == best_of(quiet)["figure"]  # trials go on exactly
    assert times(search_of(quiet)).keys() == after.keys()


def test_a_population_moves_weights_to_better_values(tmp_path: Path) -> None:
    spec = SWEEP + "    scheduler: pbt\n    population: {every: 15360}\n"
    place = Place(tmp_path / "place").write(spec.replace("trials: 6", "trials: 4"))
    ran = place.end(place.start())
    assert ran.code == 0, ran.errors
    logs = {
        path.parent.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in search_of(place).glob("trials/*/log.jsonl")
    }
    copies = [
        (begin, report)
        for log in logs.values()
        for begin, report in pairwise(log)
        if begin.get("copied")
    ]
    assert len(copies) == 2  # 30 and 60 of 90 steps, one of four each time
    for begin, report in copies:  # it stands where the better one stood, and goes on from there
        better = next(e for e in logs[begin["copied"]] if e.get("tokens") == begin["tokens"])
        assert report["tokens"] > begin["tokens"]
        assert report["metrics"]["bpb"] < 1.02 * better["metrics"]["bpb"]
    ends = [next(e for e in reversed(log) if e["event"] == "report") for log in logs.values()]
    assert all(end["tokens"] == 90 * 8 * 64 for end in ends)
