"""One run at a time in a folder, whatever becomes of the one before."""

import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from llm import lease
from llm.errors import UserError
from llm.files import write_json
from llm.lease import Lease, holding, newest_in, path_of, read

ROOT = Path(__file__).parents[2]

HOLDER = """
import sys, time
from pathlib import Path
from llm.lease import holding
with holding(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

RIVAL = """
import os, sys
from pathlib import Path
from llm.errors import UserError
from llm.lease import holding
folder, turns = Path(sys.argv[1]), 0
while turns < 8:
    try:
        with holding(folder) as held:
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))  # fails if not alone
            assert held.fence()
            with open(folder / "turns", "a") as file:
                file.write("turn\\n")
            os.unlink(folder / "inside")
            turns += 1
    except UserError as error:
        assert "another run works on this stage" in str(error)
"""


def process(code: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the folder until its input ends."""
    found = process(HOLDER, folder)
    assert found.stdout and found.stdout.readline() == "held\n"
    return found


def far_away(folder: Path) -> None:
    """Make the newest lease that of another machine."""
    number = newest_in(folder)
    found = read(folder, number)
    assert found
    write_json(path_of(folder, number), asdict(replace(found, machine="another boot", host="far")))


def test_a_second_run_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with holding(tmp_path), pytest.raises(UserError) as told, holding(tmp_path):
        pass
    own = shlex.join(sys.orig_argv)
    for part in (str(tmp_path), f"process {os.getpid()} on ", f"kill {os.getpid()}", f"({own})"):
        assert part in str(told.value)


def test_a_lease_given_back_is_free_and_its_fence_is_down(tmp_path: Path) -> None:
    with holding(tmp_path) as first:
        assert first.fence()
    assert not first.fence()
    with holding(tmp_path) as second:
        assert second.fallen is None
        assert second.fence() and not first.fence()


def test_a_killed_holder_is_succeeded_at_once(tmp_path: Path) -> None:
    dead = holder(tmp_path)
    with pytest.raises(UserError, match=f"process {dead.pid} "), holding(tmp_path):
        pass
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    said: list[str] = []
    with holding(tmp_path, said.append) as held:
        assert held.fallen and held.fallen.pid == dead.pid
    assert said == []


def test_a_pid_that_is_used_again_is_not_the_holder(tmp_path: Path) -> None:
    other = replace(Lease.mine(), process="1")
    lease.create(tmp_path, 3, other)
    with holding(tmp_path) as held:
        assert held.fallen == other


def test_the_lease_of_another_machine_is_taken_over_once_it_has_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "TTL", 0.5)
    lease.create(tmp_path, 1, Lease.mine())
    far_away(tmp_path)
    said: list[str] = []
    with holding(tmp_path, said.append) as held:
        assert held.fallen and held.fallen.host == "far"
    assert "process" in said[0] and "on far" in said[0] and "taken over in" in said[0]


def test_the_lease_of_another_machine_that_is_renewed_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "EVERY", 0.05)
    alive = threading.Event()

    def hold() -> None:
        with holding(tmp_path):
            far_away(tmp_path)
            alive.set()
            done.wait()

    done = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    alive.wait()
    try:
        with pytest.raises(UserError, match="on far"), holding(tmp_path):
            pass
    finally:
        done.set()
        thread.join()


def test_a_lease_cut_off_while_it_was_written_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "TTL", 0.3)
    path_of(tmp_path, 1).parent.mkdir()
    path_of(tmp_path, 1).write_text('{"token": "a')
    with holding(tmp_path, lambda _: None) as held:
        assert held.fence()


def test_a_holder_that_slept_too_long_is_succeeded_and_learns_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process that was stopped and goes on: its fence is down, its block is interrupted."""
    monkeypatch.setattr(lease, "EVERY", 0.05)
    with pytest.raises(UserError, match="another run has taken over"), holding(tmp_path) as held:
        lease.create(tmp_path, newest_in(tmp_path) + 1, Lease.mine())
        assert not held.fence()
        with pytest.raises(UserError, match="another run has taken over"):
            held.require()
        threading.Event().wait(30)
        pytest.fail("nobody interrupted it")


def test_a_stopped_process_gives_way_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "TTL", 0.3)
    stopped = holder(tmp_path)
    stopped.send_signal(signal.SIGSTOP)
    os.utime(path_of(tmp_path, 1), (0, 0))
    try:
        with holding(tmp_path) as held:
            assert held.fallen and held.fallen.pid == stopped.pid
    finally:
        stopped.kill()
        stopped.wait()


def test_a_fence_is_down_where_its_folder_is_gone_and_may_be_pickled(tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    with holding(folder) as held:
        fence = pickle.loads(pickle.dumps(held.fence))
        assert fence()
        shutil.rmtree(folder)
        assert not fence()


def test_of_rivals_one_at_a_time_is_inside(tmp_path: Path) -> None:
    rivals = [process(RIVAL, tmp_path) for _ in range(4)]
    errors = [rival.communicate(timeout=120)[1] for rival in rivals]
    assert errors == [""] * 4
    assert (tmp_path / "turns").read_text() == "turn\n" * 32


def test_rivals_of_a_dead_holder_are_let_in_one_by_one(tmp_path: Path) -> None:
    dead = holder(tmp_path)
    rivals = [process(RIVAL, tmp_path) for _ in range(3)]
    dead.kill()
    dead.wait()
    errors = [rival.communicate(timeout=120)[1] for rival in rivals]
    assert errors == [""] * 3
    assert (tmp_path / "turns").read_text() == "turn\n" * 24
