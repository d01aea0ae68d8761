"""What travels with a job: what the spec names in the project, and where it lies there."""

from pathlib import Path

import pytest

from jobs import inside, parcel
from jobs.load import load
from jobs.parcel import ROOT, pack, requirements
from llm.errors import SpecError, UserError

SPEC = """\
name: parcel
data: {shards: [text/*.txt, s3://bucket/more.txt], validation: {shards: /mnt/held/out.txt}}
stages:
  corpus:
    kind: corpus
    sources: {own: {shards: text}, home: {shards: ~/text}}
    filter: {words: {file: lists/words.txt}}
  tokenizer: {kind: tokenizer, corpus: corpus, vocab_size: 300}
  pretrain:
    kind: pretrain
    corpus: corpus
    tokenizer: tokenizer
    steps: 1
    checkpoint: {mirror: copies}
  sft: {kind: sft, from: pretrain, data: [{shards: /mnt/talks.jsonl, schema: question_answer}]}
  ppo:
    kind: ppo
    from: sft
    rule: "rules.py:score"
    data: [{shards: /mnt/asked.jsonl, schema: question_answer}]
    steps: 1
  serve: {kind: serve, from: sft, keys: keys.txt}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("text/a.txt", "text/b.txt", "lists/words.txt", "rules.py", "other.txt"):
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("some words\n")
    (tmp_path / "project" / "keys.txt").write_text("secret")
    (tmp_path / "project" / "spec.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_what_the_spec_names_in_the_project_travels_and_nothing_else(project: Path) -> None:
    _, packed = pack("spec.yaml", ())
    assert set(packed.named) == {
        "spec.yaml",
        "text/a.txt",
        "text/b.txt",
        "lists/words.txt",
        "rules.py",
    }
    assert {"llm/model.py", "llm/attend.c", "jobs/cli.py"} <= packed.files.keys()
    assert not any("tests" in name or "__pycache__" in name for name in packed.files)
    assert packed.bytes < 5_000_000


def test_what_a_run_writes_is_named_by_where_it_is_seen_from_here(project: Path) -> None:
    _, packed = pack("spec.yaml", ("seed=3",))
    assert packed.arguments == (
        "spec.yaml",
        "seed=3",
        f"storage={project / 'runs'}",
        f"stages.pretrain.checkpoint.mirror={project / 'copies'}",
    )
    _, packed = pack("spec.yaml", ("storage=/mnt/runs",))
    assert f"storage={project}" not in " ".join(packed.arguments)


def test_laid_out_in_a_job_the_spec_names_the_same_files(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, packed = pack("spec.yaml", ("data.shards=other.txt",), installed=True)
    there = tmp_path / "there"
    packed.copy_to(there)
    monkeypatch.chdir(there)
    spec = load(packed.arguments[0], packed.arguments[1:])
    assert spec.data and spec.data.shards == (str(there / "other.txt"),)
    assert Path(spec.data.shards[0]).exists()
    assert spec.storage == str(project / "runs")


def test_a_spec_elsewhere_takes_its_own_folder_for_the_project(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    _, packed = pack(str(project / "spec.yaml"), (), installed=True)
    assert packed.arguments[0] == "spec.yaml"
    assert "lists/words.txt" in packed.named
    with pytest.raises(SpecError, match=r"starts from this folder, but the spec lies in"):
        pack(str(project / "spec.yaml"), ("data.shards=x.txt",))


def test_what_cannot_travel_is_an_error_before_anything_is_sent(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside.txt").write_text("x")
    with pytest.raises(SpecError, match=r"data.shards.0: ../outside.txt: lies outside of the"):
        pack("spec.yaml", ("data.shards=../outside.txt",))
    with pytest.raises(SpecError, match="there is no such file"):
        pack("spec.yaml", ("data.shards=none.txt",))
    monkeypatch.setattr(parcel, "MOST_BYTES", 40)
    with pytest.raises(SpecError, match="put it where the cluster's nodes reach it"):
        pack("spec.yaml", ())


def test_a_file_called_like_one_of_ours_is_refused(project: Path) -> None:
    (project / "llm").mkdir()
    (project / "llm" / "model.py").write_text("")
    with pytest.raises(SpecError, match="humpty has a file of this name itself"):
        pack("spec.yaml", ("stages.ppo.rule=llm/model.py:score",))
    pack("spec.yaml", ("stages.ppo.rule=llm/model.py:score",), installed=True)


def test_the_digest_is_that_of_names_and_contents(project: Path) -> None:
    def digest() -> str:
        return pack("spec.yaml", (), installed=True)[1].digest

    before = digest()
    (project / "other.txt").write_text("not named")
    assert digest() == before
    (project / "rules.py").write_text("changed")
    assert digest() != before


def test_pip_installs_what_pyproject_names_but_for_ray() -> None:
    wanted = requirements(("einops", "humpty"))
    assert wanted[0] == "einops"
    assert "sentencepiece>=0.2.3,<0.3" in wanted
    assert not any(one.startswith("ray") or one == "humpty" for one in wanted)
    assert (ROOT / "pyproject.toml").exists()


# -- inside ----------------------------------------------------------------------------------------


@pytest.fixture
def in_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a job, as Ray makes it."""
    folder = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(inside, "job", lambda: {"metadata": {"job_submission_id": "x-1"}})
    return folder


def test_inside_a_job_what_lasts_does_not_lie_in_rays_copy(in_job: Path, tmp_path: Path) -> None:
    (in_job / "x.yaml").write_text(
        "name: x\ndata: {shards: pydoc://}\nstages: {t: {kind: tokenizer, vocab_size: 300}}\n"
    )
    assert load("x.yaml").storage == str(tmp_path / "home" / "runs")
    assert load("x.yaml", ("storage=/mnt/x",)).storage == "/mnt/x"
    [line, wait] = inside.remarks("/home/runs", "runs")
    assert line.startswith("storage: /home/runs")
    assert "leaves 3 s for saving" in wait


def test_inside_a_job_a_storage_of_another_machine_is_refused(in_job: Path) -> None:
    with pytest.raises(UserError, match=r"there is no /home/nobody on this node of the cluster"):
        inside.require_place("/home/nobody/runs")
    inside.require_place("/tmp/runs")


def test_outside_a_job_nothing_is_different(tmp_path: Path) -> None:
    inside.require_place("/home/nobody/runs")
    assert not list(inside.remarks("runs", "runs"))
    assert inside.outputs_from() == Path.cwd()
