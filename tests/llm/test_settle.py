"""A run goes on from the newest whole checkpoint, and everybody finds the same one."""

import errno
import os
from pathlib import Path

import pytest

from llm import checkpoint, events
from llm.errors import ArtifactError
from llm.metrics import Event
from llm.outside import Outside
from llm.settle import settle
from tests.saved import State, loaded, save, saver


def spoil(artifact: Path, *steps: int) -> None:
    for step in steps:
        with open(artifact / "checkpoints" / checkpoint.name_of(step) / "state.json", "a") as file:
            file.write(" ")


def names(artifact: Path) -> list[str]:
    return sorted(path.name for path in (artifact / "checkpoints").iterdir())


def test_without_checkpoints_a_run_begins(tmp_path: Path) -> None:
    assert settle(tmp_path / "checkpoints") is None


def test_a_damaged_one_is_passed_over_set_aside_and_noted(tmp_path: Path) -> None:
    save(saver(tmp_path, keep={"last": 5}), State(), 1, 2, 3)
    spoil(tmp_path, 3)
    said: list[Event] = []
    found = settle(tmp_path / "checkpoints", say=said.append)
    assert found == tmp_path / "checkpoints" / "step-000002"
    assert names(tmp_path)[-2:] == ["step-000001", "step-000002"]
    [noted] = events.read(tmp_path)
    assert (noted["event"], noted["step"]) == ("damaged", 3)
    assert noted["why"] == said[0]["why"] == "state.json has changed since it was written"
    assert settle(tmp_path / "checkpoints") == found
    assert len(events.read(tmp_path)) == 1


def test_one_that_storage_does_not_give_back_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(saver(tmp_path), State(), 1, 2)
    sha256 = checkpoint.sha256

    def broken(path: Path) -> str:
        if path.parent.name == "step-000002" and path.name.startswith("optimizer"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return sha256(path)

    monkeypatch.setattr(checkpoint, "sha256", broken)
    assert loaded(tmp_path, State()) == 1
    assert "Input/output error" in events.read(tmp_path)[0]["why"]


def test_two_damaged_ones_are_kept_for_who_wants_to_know(tmp_path: Path) -> None:
    save(saver(tmp_path, keep={"last": 9}), State(), 1, 2, 3, 4, 5)
    spoil(tmp_path, 2, 3, 4, 5)
    settle(tmp_path / "checkpoints")
    hidden = [name.split(".")[1] for name in names(tmp_path) if name.startswith(".")]
    assert hidden == ["damaged-step-000002", "damaged-step-000003"]


def test_if_none_is_whole_it_says_so_and_touches_nothing(tmp_path: Path) -> None:
    save(saver(tmp_path), State(), 1, 2)
    spoil(tmp_path, 1, 2)
    before = names(tmp_path)
    with pytest.raises(ArtifactError, match=r"no checkpoint is whole \(step-000002: .*remove the"):
        settle(tmp_path / "checkpoints")
    assert names(tmp_path) == before


def test_one_of_another_shape_is_passed_over(tmp_path: Path) -> None:
    save(saver(tmp_path), State(), 1)
    save(saver(tmp_path / "other"), State(width=9), 2)
    foreign = tmp_path / "other" / "checkpoints" / "step-000002"
    foreign.rename(tmp_path / "checkpoints" / "step-000002")
    assert loaded(tmp_path, State()) == 1
    [noted] = events.read(tmp_path)
    assert noted["why"] == "0.weight is (7, 9), this model needs (7, 8)"


def test_a_run_whose_spec_fits_no_checkpoint_does_not_begin_again(tmp_path: Path) -> None:
    save(saver(tmp_path), State(), 1)
    with pytest.raises(ArtifactError, match=r"no checkpoint is whole .*this model needs \(7, 9\)"):
        loaded(tmp_path, State(width=9))
    assert loaded(tmp_path, State()) == 1


def test_a_run_that_has_lost_its_folder_sets_nothing_aside(tmp_path: Path) -> None:
    save(saver(tmp_path), State(), 1, 2)
    spoil(tmp_path, 2)
    (tmp_path / "checkpoints" / ".step-000003.9.tmp").mkdir()
    before = names(tmp_path)
    found = settle(tmp_path / "checkpoints", may_write=lambda: False)
    assert found == tmp_path / "checkpoints" / "step-000001" and names(tmp_path) == before


def test_what_an_attempt_left_half_written_is_swept(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".step-000003.9.tmp").mkdir(parents=True)
    settle(tmp_path / "checkpoints")
    assert names(tmp_path) == []


def test_the_terminal_hears_of_damage(tmp_path: Path) -> None:
    save(saver(tmp_path), State(), 1, 2)
    spoil(tmp_path, 2)
    heard: list[Event] = []
    state = State()
    saver(tmp_path, Outside(heard.append)).restore(state.model, state.optimizer)
    assert [event["event"] for event in heard] == ["damaged"]
