"""Saving beside the training: the same files, the state of the moment, errors that are heard."""

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm import checkpoint, files, pieces
from llm.errors import ArtifactError, TrainingError
from llm.metrics import Event
from llm.outside import Outside, Wish
from tests.saved import State, loaded, position, save, saver
from tests.tasks import losses, run_plain, write_task


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_saved_beside_is_saved_in_place_byte_for_byte(tmp_path: Path) -> None:
    state = State()
    save(saver(tmp_path), state, 7)
    there = checkpoint.save(tmp_path / "plain", state.model, state.optimizer, position(7))
    assert contents(tmp_path / "checkpoints" / "step-000007") == contents(there)


def test_what_is_saved_is_the_state_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = threading.Event()
    write_parts = checkpoint.write_parts

    def write_later(*arguments: Any) -> dict[str, str]:
        assert trained.wait(60)
        return write_parts(*arguments)

    monkeypatch.setattr(checkpoint, "write_parts", write_later)
    to, state, at = saver(tmp_path), State(), position(1)
    to.save(state.at(1).model, state.optimizer, at)
    state.at(2)
    at.step, at.extra["late"] = 2, 1.0
    trained.set()
    to.close()
    assert loaded(tmp_path, State()) == 1


def test_a_save_waits_for_the_one_before(tmp_path: Path) -> None:
    to, state = saver(tmp_path, keep={"last": 9}), State()
    for step in range(1, 8):
        to.save(state.at(step).model, state.optimizer, position(step))
    to.close()
    paths = checkpoint.steps(tmp_path / "checkpoints")
    assert [checkpoint.step_of(path) for path in paths] == list(range(1, 8))
    assert [checkpoint.damage(path) for path in paths] == [None] * 7


def test_a_saver_goes_on_after_it_was_closed(tmp_path: Path) -> None:
    to, state = saver(tmp_path), State()
    save(to, state, 1)
    assert to.restore(state.model, state.optimizer) == position(1)
    save(to, state, 2)
    assert loaded(tmp_path, state) == 2


def test_a_commit_is_told_with_what_it_cost(tmp_path: Path) -> None:
    heard: list[Event] = []
    save(saver(tmp_path, Outside(heard.append)), State(), 3)
    [event] = heard
    assert (event["event"], event["step"]) == ("checkpoint", 3)
    assert Path(event["path"]).is_dir() and event["seconds"] > 0 and event["stall"] > 0


def test_a_run_whose_folder_is_another_s_commits_nothing(tmp_path: Path) -> None:
    save(saver(tmp_path), State(), 1)
    to = saver(tmp_path, Outside(may_write=lambda: False))
    with pytest.raises(TrainingError, match="another run has taken over this folder, so step 2"):
        save(to, State(), 2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]


# -- storage that takes nothing more ---------------------------------------------------------------


class Failing:
    """Calls that begin to fail with the n-th of them."""

    def __init__(self, code: int) -> None:
        self.code, self.left = code, 0

    def wrap(self, call: Any) -> Any:
        def wrapped(*arguments: Any, **settings: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise OSError(self.code, os.strerror(self.code))
            return call(*arguments, **settings)

        return wrapped


@pytest.fixture(params=[errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    """Everything by which a save changes the disk."""
    made = Failing(request.param)
    for name in ("fsync", "replace", "mkdir"):
        monkeypatch.setattr(os, name, made.wrap(getattr(os, name)))
    for module in (pieces, files):
        monkeypatch.setattr(module, "open", made.wrap(open), raising=False)
    yield made


def test_whichever_call_fails_there_is_one_error_and_the_old_ones_stay(
    tmp_path: Path, failing: Failing
) -> None:
    failing.left = 10_000
    state = State()
    save(saver(tmp_path), state, 1, 2)
    for calls in range(100):
        outside = Outside()
        to, failing.left = saver(tmp_path, outside), 10_000
        to.save(state.at(3).model, state.optimizer, position(3))
        to.close()  # which makes buffers and thread
        failing.left = calls
        to.save(state.at(4).model, state.optimizer, position(4))
        try:
            to.close()
            break
        except ArtifactError as error:
            assert os.strerror(failing.code) in str(error)
            assert f"{tmp_path / 'checkpoints'}: step 4 could not be saved" in str(error)
        failing.left = 10_000
        assert outside.wishes.take() == Wish.SAVE
        assert loaded(tmp_path, state) in (3, 4)  # 4 if only what comes after it failed
        shutil.rmtree(tmp_path / "checkpoints" / "step-000004", ignore_errors=True)
    assert calls > 10
    failing.left = 10_000
    assert loaded(tmp_path, state) == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An artifact whose checkpoints are on a disk of 8 MB of their own."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_error_that_says_how_much_is_wanted(small_disk: Path) -> None:
    state = State(width=40_000)  # 4.8 MB with its moments
    save(saver(small_disk), state, 1)
    with pytest.raises(
        ArtifactError,
        match=r"step 2 could not be saved: No space left on device: it takes 4\.8 MB, and 3\.\d+ MB"
        r" are free.*free space.*goes on from step 1$",
    ):
        save(saver(small_disk), state, 2)
    assert loaded(small_disk, state) == 1
    names = [path.name for path in (small_disk / "checkpoints").iterdir()]
    assert names == ["step-000001"]


def test_a_disk_that_others_fill_up_meanwhile_is_the_same_error(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(width=40_000)
    save(saver(small_disk), state, 1)
    monkeypatch.setattr("llm.saver.require_disk", lambda *_: None)
    with pytest.raises(ArtifactError, match="step 2 could not be saved: No space left on device"):
        save(saver(small_disk), state, 2)
    assert loaded(small_disk, state) == 1


def test_a_disk_that_cannot_be_written_is_one_error(small_disk: Path) -> None:
    state = State()
    save(saver(small_disk), state, 1)
    to, folder = saver(small_disk), str(small_disk / "checkpoints")
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    with pytest.raises(ArtifactError, match=r"Read-only file system.*mount it writable"):
        to.save(state.at(2).model, state.optimizer, position(2))
        to.close()
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    assert loaded(small_disk, state) == 1


def test_a_training_ends_with_that_error_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = write_task(tmp_path, steps=20, save_every=5)
    run_plain(task, tmp_path / "whole")
    write_parts = checkpoint.write_parts

    def full(temporary: Path, *arguments: Any) -> dict[str, str]:
        if "step-000010" in temporary.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_parts(temporary, *arguments)

    monkeypatch.setattr(checkpoint, "write_parts", full)
    with pytest.raises(ArtifactError, match=r"step 10 could not be saved.*goes on from step 5$"):
        run_plain(task, tmp_path / "full")
    assert 10 <= len(losses(tmp_path / "full")) <= 15
    monkeypatch.undo()
    run_plain(task, tmp_path / "full")
    assert losses(tmp_path / "full") == losses(tmp_path / "whole")
