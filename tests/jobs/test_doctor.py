"""A diagnosis: what is well is one line, what is not says what to do."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.config import ClusterConfig
from cluster.examine import PACKAGES, this_node, try_storage
from jobs.diagnosis import Finding, of_demand, of_node, of_nodes, of_storage
from jobs.doctor import doctor, of_port, of_token

ROOT = Path(__file__).parents[2]

GB = 1 << 30
WELL = {
    "address": "10.0.0.1",
    "resources": {"CPU": 8.0, "GPU": 2.0},
    "problems": [],
    "python": "3.11.9",
    "packages": {name: "2.60.0" for name in PACKAGES},
    "cuda": "12.8",
    "gpus": 2,
    "compiler": "/usr/bin/cc",
    "cores": 8,
    "memory": {"total": 32 * GB, "free": 20 * GB},
    "shm": {"total": 16 * GB, "free": 16 * GB},
    "temp": {"path": "/tmp", "total": 100 * GB, "free": 50 * GB},
    "open_files": 65536,
    "storage": {"total": 100 * GB, "free": 50 * GB, "error": "", "skew": 0.0},
    "skew": 0.0,
}


def wrong(findings: Any) -> list[Finding]:
    return [one for one in findings if one.state != "good"]


def test_what_is_well_is_all_good() -> None:
    assert not wrong(of_node(WELL, ["ray>=2.60,<2.61"]))
    assert not wrong(of_nodes([WELL, {**WELL, "address": "10.0.0.2"}], "/mnt/runs"))


@pytest.mark.parametrize(
    ("changed", "said", "remedy"),
    [
        ({"python": "3.10.1"}, "3.10.1", "install Python 3.11"),
        ({"packages": {"ray": "2.59.0"}}, "ray 2.59.0", "pip install 'ray<2.61,>=2.60'"),
        ({"packages": {"ray": ""}}, "ray is missing", "pip install"),
        ({"cuda": ""}, "2 GPUs, but a build for CPUs", "a build for CUDA"),
        ({"compiler": None}, "none", "apt-get install gcc"),
        ({"memory": {"total": GB, "free": GB}}, "free of", "end what uses it"),
        ({"shm": {"total": GB, "free": GB // 16}}, "67.1 MB free", "--shm-size=2g"),
        ({"temp": {"path": "/t", "total": 500 * GB, "free": 20 * GB}}, "in /t", "make room"),
        ({"open_files": 1024}, "1024 at once", "ulimit -n"),
    ],
)
def test_each_lack_is_one_finding_with_its_remedy(
    changed: dict[str, Any], said: str, remedy: str
) -> None:
    [finding] = wrong(of_node(WELL | changed, ["ray>=2.60,<2.61"]))
    assert said in finding.said
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("changed", "subject", "said"),
    [
        ({"python": "3.12.1"}, "python", "10.0.0.1 3.11.9, 10.0.0.2 3.12.1"),
        ({"packages": {**WELL["packages"], "torch": "2.9"}}, "torch", "10.0.0.2 2.9"),
        ({"skew": -7.5}, "clocks", "7.5 s apart"),
        ({"problems": ["storage: does not see /mnt/a: No such file"]}, "10.0.0.2", "does not see"),
        ({"problems": ["network: cannot reach 10.0.0.1:5"]}, "10.0.0.2", "cannot reach"),
        ({"compiler": None}, "10.0.0.2 compiler", "none"),
    ],
)
def test_a_node_that_is_unlike_the_others_is_named(
    changed: dict[str, Any], subject: str, said: str
) -> None:
    nodes = [WELL, {**WELL, "address": "10.0.0.2", **changed}]
    [finding] = wrong(of_nodes(nodes, "/mnt/runs"))
    assert finding.subject == subject
    assert said in finding.said
    assert finding.remedy


def test_a_node_that_does_not_answer_is_a_finding_not_an_error() -> None:
    silent = {"address": "10.0.0.2", "resources": {}, "problems": ["does not answer: no worker"]}
    [finding] = wrong(of_nodes([WELL, silent], None))
    assert (finding.subject, finding.said) == ("10.0.0.2", "does not answer: no worker")


def test_room_is_counted_by_what_a_worker_needs() -> None:
    cluster = ClusterConfig(workers=4, cpus_per_worker=2, gpus_per_worker=1)
    [finding] = wrong([of_demand([WELL], cluster)])
    assert finding.said == "for 2 of 4 workers of 1 GPU and 2 CPU"
    assert not wrong([of_demand([WELL, WELL], cluster)])


def test_a_storage_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    tried = try_storage(str(tmp_path / "a" / "b"))
    assert not tried["error"]
    assert abs(tried["skew"]) < 2
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    tried = try_storage(str(tmp_path / "file" / "runs"))
    [finding] = wrong([of_storage("x", tried)])
    assert "Not a directory" in finding.said


def test_a_storage_whose_clock_is_off_is_worth_a_note() -> None:
    [finding] = wrong([of_storage("/mnt", {**WELL["storage"], "skew": -40.0})])
    assert (finding.state, "-40.0 s" in finding.said) == ("note", True)


def test_a_taken_port_is_noted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert of_port(port, "`serve`").state == "note"


def test_a_token_mode_without_a_token_is_bad(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert of_token().state == "good"
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert "there is no token" in of_token().said
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t")
    (tmp_path / ".ray" / "auth_token").chmod(0o644)
    assert "chmod 600" in of_token().remedy


def test_this_machine_is_examined_in_seconds_without_torch_and_ray(tmp_path: Path) -> None:
    code = (
        "import sys; from jobs.cli import app\n"
        "try: app(['doctor'])\n"
        "except SystemExit as end: print('code', end.code)\n"
        "print({'torch', 'ray'} & set(sys.modules))"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("set()"), done.stdout + done.stderr
    assert "python     3." in done.stdout
    assert time.monotonic() - began < 10


def test_what_has_to_be_mended_makes_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node = this_node(str(tmp_path)) | {"memory": {"total": GB, "free": 0}}
    monkeypatch.setattr("jobs.doctor.examine.this_node", lambda _: dict(node))
    assert doctor(None, (), None) == 1
    assert "!!  memory" in capsys.readouterr().out
