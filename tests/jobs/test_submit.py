"""What is sent to a cluster, and what of it is sent again; the cluster is a fake."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.submit import Job
from jobs.cli import app
from jobs.submit import Way, resume, submit
from llm.errors import UserError

SPEC = """\
name: x
data: {shards: text.txt}
stages: {t: {kind: tokenizer, vocab_size: 300}}
"""


class Cluster:
    """Remembers what it is sent."""

    door = SimpleNamespace(url="http://h:1", ray="2.60.0")

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.folders: list[set[str] | str] = []
        self.kept = True

    def send(
        self, command: str, folder: Any, run: str, known: Mapping[str, str], pip: tuple[str, ...]
    ) -> str:
        uploaded = isinstance(folder, str) and folder.startswith("gcs://")
        paths = [] if uploaded else [one for one in Path(folder).rglob("*") if one.is_file()]
        files = {str(path.relative_to(folder)) for path in paths}
        self.folders.append(folder if uploaded else files)
        environment = {"working_dir": "gcs://p.zip", "pip": {"packages": list(pip)}}
        job = Job(
            f"{run}-{len(self.jobs)}", "RUNNING", command, known, environment, "", None, 0.0, None
        )
        self.jobs.append(job)
        return job.id

    def find(self, name: str) -> Job:
        return self.jobs[-1]

    def has(self, package: str) -> bool:
        return self.kept

    def follow(self, job: str, seen: int = 0) -> Iterator[str]:
        self.end("SUCCEEDED")
        yield "done\n"

    def look(self, job: str) -> Job:
        return self.jobs[-1]

    def end(self, status: str) -> None:
        self.jobs[-1] = replace(self.jobs[-1], status=status)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr("cluster.submit.connect", lambda address, plain: cluster)
    return cluster


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "x.yaml").write_text(SPEC)
    (tmp_path / "text.txt").write_text("a few words\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_is_sent_with_what_it_names_and_followed(
    cluster: Cluster, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit("x.yaml", ("seed=3",), Way(pip=("einops",), installed=True)) == 0
    [job] = cluster.jobs
    assert job.entrypoint == f"python -m jobs run x.yaml seed=3 storage={project / 'runs'}"
    assert cluster.folders == [{"x.yaml", "text.txt"}]
    assert job.environment["pip"] == {"packages": ["einops"]}
    out, err = capsys.readouterr()
    assert out == "done\n"
    assert "x: t to do" in err
    assert "x.yaml, text.txt" in err
    assert "logs -f x-0" in err


@pytest.mark.parametrize("wrong", ["seed=x", "data.shards=../../etc/hosts"])
def test_a_wrong_spec_exits_with_2_before_anything_is_asked(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.submit.connect", None)
    result = CliRunner().invoke(app, ["submit", "x.yaml", wrong])
    assert result.exit_code == 2
    assert wrong in result.stderr


def test_a_wrong_plan_is_found_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.submit.connect", None)
    Path("text.txt").write_text("")
    with pytest.raises(UserError):
        submit("x.yaml", (), Way())


def test_text_on_the_cluster_alone_is_left_to_the_job(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit("x.yaml", ("data.shards=/mnt/there.txt",), Way(installed=True)) == 0
    assert cluster.folders == [{"x.yaml"}]
    assert "/mnt/there.txt is not on this machine" in capsys.readouterr().err


def test_a_stopped_job_is_sent_again_as_it_lies_on_the_cluster(cluster: Cluster) -> None:
    submit("x.yaml", (), Way(pip=("einops",), installed=True))
    cluster.end("STOPPED")
    assert resume("x", Way()) == 0
    first, second = cluster.jobs
    assert cluster.folders[1] == "gcs://p.zip"
    assert second.entrypoint == first.entrypoint
    assert second.environment == first.environment
    assert second.metadata["resumes"] == first.id


def test_files_that_the_cluster_has_thrown_away_are_sent_again_from_anywhere(
    cluster: Cluster, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit("x.yaml", (), Way(installed=True))
    cluster.end("FAILED")
    cluster.kept = False
    monkeypatch.chdir("/")
    assert resume("x", Way()) == 0
    assert cluster.folders[1] == cluster.folders[0]


def test_files_that_have_changed_since_are_another_run(cluster: Cluster) -> None:
    submit("x.yaml", (), Way(installed=True))
    cluster.end("FAILED")
    cluster.kept = False
    Path("text.txt").write_text("other words\n")
    with pytest.raises(UserError, match="has changed since; so this would be another run; submit"):
        resume("x", Way())
    assert len(cluster.jobs) == 1


def test_only_what_has_ended_unfinished_is_resumed(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    submit("x.yaml", (), Way(installed=True, follow=False))
    with pytest.raises(UserError, match=r"x-0 is still at work \(RUNNING\)"):
        resume("x", Way())
    cluster.end("SUCCEEDED")
    assert resume("x", Way()) == 0
    assert "nothing to go on with" in capsys.readouterr().err
    cluster.jobs = [replace(cluster.jobs[0], status="STOPPED", metadata={})]
    with pytest.raises(UserError, match="was not sent by `submit`"):
        resume("x", Way())
