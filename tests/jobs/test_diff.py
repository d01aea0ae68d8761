"""Two runs are compared as people would: spec, data, code and figures, and what is better."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.diff import ABSENT, Difference, StageView, compare, judgement, read_run, two_runs
from llm.errors import ArtifactError, SpecError
from tests.made import artifact, make, rewrite, write_spec


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return write_spec(tmp_path)


def invoke(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["diff", *words])
    return result.exit_code, result.output


def found(*words: str) -> list[Difference]:
    return compare(*(read_run(*target) for target in two_runs(words)))


def test_a_run_is_the_same_as_itself_and_exits_with_0(file: str) -> None:
    code, said = invoke(file, file)
    assert code == 0 and said.endswith("The same: spec, data, code and figures.\n")


def test_overrides_belong_to_the_spec_before_them(file: str) -> None:
    assert two_runs(["a.yaml", "x=1", "y.z=2", "b.yaml"]) == [
        ("a.yaml", ["x=1", "y.z=2"]),
        ("b.yaml", []),
    ]
    [one] = found(file, "stages.pretrain.optim.clip=2", file)
    assert one == ("spec", "pretrain", "optim.clip", 2.0, 1.0, "", True)


def test_a_difference_is_told_with_stage_path_and_both_values(file: str) -> None:
    code, said = invoke(file, file, "stages.pretrain.optim.clip=2", "stages.generate.prompts=Now")
    assert code == 1
    rows = [line.split() for line in said.splitlines()]
    assert ["pretrain", "optim.clip", "1", "2"] in rows
    assert ["generate", "prompts", '["Once"]', '["Now"]'] in rows
    assert said.endswith("2 differences in spec; stages: pretrain, generate\n")
    assert "\x1b" not in said


def test_what_changes_no_result_is_told_apart(file: str) -> None:
    [one] = found(file, file, "stages.pretrain.log_every=3")
    assert (one.path, one.a, one.b, one.note) == ("log_every", 10, 3, "changes no result")


def test_another_text_is_another_digest_and_size(file: str) -> None:
    Path("other.txt").write_text("Once upon a time.\n" * 49 + "Once more.\n")
    differences = found(file, file, "data.shards=other.txt")
    assert {(one.what, one.stage) for one in differences} == {
        ("data", "tokenizer"),
        ("data", "pretrain"),
    }
    sizes = {one.path: (one.a, one.b) for one in differences if one.stage == "pretrain"}
    assert sizes["read.data.bytes"] == (900, 49 * 18 + 11)
    assert sizes.keys() == {"digest", "read.data.bytes"}
    Path("copy.txt").write_bytes(Path("text.txt").read_bytes())
    assert {one.path for one in found(file, file, "data.shards=copy.txt")} == {"digest"}


def test_figures_have_a_difference_and_a_judgement(file: str) -> None:
    ones = {"bpb": 1.5, "tokens_per_second": 100.0, "steps": 3, "validation_accuracy": 0.5}
    others = {"bpb": 1.25, "tokens_per_second": 90.0, "steps": 4, "validation_accuracy": 0.25}
    a = make(file, "storage=a", metrics={"pretrain": ones})
    b = make(file, "storage=b", metrics={"pretrain": others})
    by_path = {one.path: one for one in found(str(a.folder), str(b.folder))}
    assert by_path["bpb"] == ("figure", "pretrain", "bpb", 1.5, 1.25, "better", True)
    assert by_path["validation_accuracy"].note == "worse"
    assert by_path["steps"].note == ""
    assert not by_path["tokens_per_second"].counts
    code, said = invoke(str(a.folder), str(b.folder))
    [row] = [line.split() for line in said.splitlines() if " bpb " in line]
    assert (code, row[-4:]) == (1, ["1.5", "1.25", "-0.25", "better"])


def test_speed_alone_makes_no_difference(file: str) -> None:
    a = make(file, "storage=a", metrics={"pretrain": {"tokens_per_second": 100.0}})
    b = make(file, "storage=b", metrics={"pretrain": {"tokens_per_second": 90.0}})
    code, said = invoke(str(a.folder), str(b.folder))
    assert code == 0 and "of the machine" in said and "The same" in said


def test_another_code_is_a_difference(file: str) -> None:
    a, b = make(file, "storage=a"), make(file, "storage=b")
    changed = {"commit": "ffffffffffff+", "python": "3.11.7", "humpty": "0.1.0"}
    rewrite(artifact(b, "pretrain"), code=changed)
    [one] = found(str(a.folder), str(b.folder))
    assert one == ("code", "pretrain", "commit", "0123456789ab", "ffffffffffff+", "", True)


def test_an_artifact_is_compared_with_all_that_it_was_made_of(file: str) -> None:
    a, b = make(file, "storage=a"), make(file, "storage=b", "stages.tokenizer.vocab_size=400")
    differences = found(str(artifact(a, "pretrain")), str(artifact(b, "pretrain")))
    assert ("tokenizer", "vocab_size", 300, 400) in [(x.stage, *x[2:5]) for x in differences]
    assert "generate" not in {one.stage for one in differences}


def test_of_a_run_the_newest_artifact_of_a_stage_counts(file: str) -> None:
    make(file)
    spec = make(file, "stages.generate.prompts=Later")
    older, newer = sorted(
        (spec.folder / "generate").iterdir(),
        key=lambda one: "Later" in (one / "manifest.json").read_text(),
    )
    rewrite(newer, at=2e9)
    assert read_run("runs/small", [])["generate"].spec["prompts"] == ["Later"]
    rewrite(older, at=3e9)
    assert read_run("runs/small", [])["generate"].spec["prompts"] == ["Once"]


def test_a_finished_spec_has_the_figures_of_its_run(file: str) -> None:
    make(file, metrics={"pretrain": {"bpb": 1.5}})
    assert read_run(file, [])["pretrain"].metrics["bpb"] == 1.5
    assert read_run(file, ["stages.pretrain.steps=5"])["pretrain"].metrics == {}


def test_a_stage_that_one_lacks_is_a_difference() -> None:
    view = StageView("tokenizer", {"kind": "tokenizer"}, 7)
    assert compare({"t": view}, {}) == [("stage", "t", "", "tokenizer", ABSENT, "", True)]
    other = StageView("import", {"kind": "import"}, 7)
    assert compare({"t": view}, {"t": other})[0][3:5] == ("tokenizer", "import")


def test_better_is_said_only_where_it_is_known() -> None:
    assert judgement("validation_loss", 2.0, 1.0) == "better"
    assert judgement("reward", 2.0, 1.0) == "worse"
    assert judgement("kl", 2.0, 1.0) == judgement("loss", ABSENT, 1.0) == ""


def test_what_is_no_run_is_refused(file: str) -> None:
    with pytest.raises(SpecError, match=r"diff compares two runs, here are 1: a\.yaml"):
        two_runs(["a.yaml", "seed=3"])
    os.mkdir("empty")
    with pytest.raises(ArtifactError, match="empty: no stage is finished there"):
        read_run("empty", [])
    with pytest.raises(SpecError, match="seed=3: is laid over a spec; empty is a folder"):
        read_run("empty", ["seed=3"])
    assert invoke(file)[0] == 2
