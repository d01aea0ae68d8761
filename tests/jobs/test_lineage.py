"""Every artifact leads back to its data, and what does not fit is said."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.service import ModelSource
from jobs.cli import app
from jobs.lineage import in_order, lineage
from llm.errors import ArtifactError, SpecError, UserError
from tests.made import TEXT, artifact, make, rewrite, write_spec


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return write_spec(tmp_path)


def told(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["lineage", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_an_artifact_leads_back_to_the_data(file: str) -> None:
    spec = make(file)
    link = lineage(str(artifact(spec, "generate")), [])
    assert [one.name for one in in_order(link)] == ["tokenizer", "pretrain", "generate"]
    assert not any(one.broken for one in in_order(link))
    text = link.parents["from"].manifest["inputs"]["data"]
    [read] = text["files"]
    assert (read["path"], read["bytes"]) == (str(Path("text.txt").absolute()), 18 * 50)
    assert read["digest"] == hashlib.sha256(TEXT.encode()).hexdigest()


def test_what_an_answer_carries_leads_to_the_model(file: str) -> None:
    spec = make(file)
    folder = artifact(spec, "pretrain")
    carried = ModelSource("small", str(folder), 0).artifact  # system_fingerprint of its answers
    assert lineage(carried, []).folder == Path("runs/small/pretrain") / folder.name
    assert lineage(carried[:6], [], "runs").fingerprint == folder.name
    with pytest.raises(ArtifactError, match="0123: elsewhere/\\*/\\* has no artifact of that id"):
        lineage("0123", [], "elsewhere")


def test_an_id_that_several_have_is_asked_for_in_full(file: str) -> None:
    spec = make(file)
    for name in ("abcdef000001", "abcdef000002"):
        shutil.copytree(artifact(spec, "tokenizer"), f"runs/small/copies/{name}")
    with pytest.raises(ArtifactError, match=r"abcdef: several ids begin so: .*000001, .*000002;"):
        lineage("abcdef", [])


def test_a_spec_leads_to_its_last_stage_or_the_one_that_is_named(file: str) -> None:
    with pytest.raises(ArtifactError, match=r"no stage is finished .* now; first run\n"):
        lineage(file, [])
    make(file)
    assert lineage(file, []).name == "generate"
    assert lineage(f"{file}:tokenizer", []).name == "tokenizer"
    with pytest.raises(SpecError, match="has no stage 'tokeniser'; stages: tokenizer, pretrain"):
        lineage(f"{file}:tokeniser", [])
    with pytest.raises(ArtifactError, match="stage 'pretrain' is not finished as the spec has it"):
        lineage(f"{file}:pretrain", ["stages.pretrain.steps=7"])


@pytest.mark.parametrize("target", ["nothing", "x.yml", "abc", "runs/small"])
def test_what_is_no_artifact_is_refused(file: str, target: str) -> None:
    make(file)
    with pytest.raises(UserError, match=f"^{target}: (is no folder|has no manifest)"):
        lineage(target, [])


def test_a_parent_that_is_gone_is_said_and_the_rest_is_shown(file: str) -> None:
    spec = make(file)
    gone = artifact(spec, "tokenizer")
    shutil.rmtree(gone)
    shown = told(str(artifact(spec, "generate")))
    assert f"broken   its folder is gone: {spec.folder}/*/{gone.name}" in shown
    assert "from: pretrain" in shown
    assert shown.endswith(f"the chain is broken at {gone.name}\n")


def test_a_manifest_that_was_changed_betrays_itself(file: str) -> None:
    spec = make(file)
    folder = artifact(spec, "pretrain")
    manifest = json.loads((folder / "manifest.json").read_text())
    rewrite(folder, spec={**manifest["spec"], "steps": 101})
    [fault] = lineage(str(artifact(spec, "generate")), []).parents["from"].broken
    assert fault.startswith("its manifest was changed: what stands in it makes ")
    assert fault.endswith(f"it says {folder.name}")
    rewrite(folder, spec=manifest["spec"], metrics={"loss": 1.0}, host="elsewhere")
    assert not lineage(str(folder), []).broken, "figures and places are no part of the name"


def test_a_parent_that_is_being_made_again_is_said(file: str) -> None:
    spec = make(file)
    (artifact(spec, "tokenizer") / "manifest.json").unlink()
    link = lineage(str(artifact(spec, "pretrain")), [])
    assert link.parents["tokenizer"].broken == ("it has no manifest: it is being made again",)


def test_a_run_may_be_moved(file: str, tmp_path: Path) -> None:
    spec = make(file)
    name = artifact(spec, "generate").name
    shutil.move("runs/small", "elsewhere")
    link = lineage(f"elsewhere/generate/{name}", [])
    assert len(in_order(link)) == 3 and not any(one.broken for one in in_order(link))


def test_the_tree_says_when_where_with_what_and_how_well(file: str) -> None:
    make(file, metrics={"pretrain": {"bpb": 1.25, "loss": 3.5}})
    lines = [line.lstrip("│├└─ ") for line in told(f"{file}:pretrain").splitlines()]
    assert lines[0].startswith("pretrain ") and lines[0].endswith(" (pretrain)")
    made = next(line for line in lines if line.startswith("made"))
    assert made.endswith(" in 2s on here, seed 7")  # 1.5 s, as people say it
    assert "code     commit 0123456789ab, python 3.11.7, humpty 0.1.0" in lines
    digest = hashlib.sha256(TEXT.encode()).hexdigest()[:12]
    assert any(f"in 1 file: text.txt {digest}" in line for line in lines)
    spec = next(line for line in lines if line.startswith("spec"))
    assert "model.depth 2" in spec and "steps 100" in spec
    assert "dropout" not in spec, "what is as it would be by itself is not said"
    assert "figures  bits per byte of held-out text 1.25, loss on held-out data 3.5" in lines
    assert any(line.startswith("tokenizer: tokenizer") for line in lines)


def test_programs_get_all_of_it(file: str) -> None:
    spec = make(file)
    found = json.loads(told(file, "--json"))
    assert found["artifact"] == artifact(spec, "generate").name
    assert [one["manifest"]["stage"] for one in found["lineage"].values()] == [
        "tokenizer",
        "pretrain",
        "generate",
    ]
    assert found["lineage"][found["artifact"]]["manifest"]["code"]["commit"] == "0123456789ab"


def test_a_sweep_leads_to_its_best_trial_and_notices_another_one(tmp_path: Path) -> None:
    file = write_spec(tmp_path)
    spec = make(file, f"storage={tmp_path / 'runs'}")
    sweep = spec.folder / "search" / "5eee00000001"
    trained, trial = artifact(spec, "pretrain"), "trials/t1/work/pretrain"
    shutil.copytree(trained, sweep / trial / trained.name)
    shutil.rmtree(spec.folder / "pretrain")
    best = {"trial": "t1", "artifact": f"{trial}/{trained.name}"}
    shutil.copy(sweep / trial / trained.name / "manifest.json", sweep)
    known = {"fingerprint": sweep.name, "metrics": {"best": best}}
    rewrite(sweep, stage="search", kind="sweep", spec={"kind": "sweep"}, **known)
    rewrite(sweep, parents={"of.0": trained.name})
    link = lineage(str(sweep), [])
    assert {key: one.name for key, one in link.parents.items()} == {"best": "pretrain"}
    assert link.parents["best"].parents["tokenizer"].name == "tokenizer"
    writer = artifact(spec, "generate")
    rewrite(writer, parents={"from": f"{sweep.name}.t0"})
    faults = lineage(str(writer), []).parents["from"].broken
    assert faults[-1] == "its best trial is t1 now; this was built on that of t0"
