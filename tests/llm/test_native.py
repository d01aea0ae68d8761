"""Libraries that the next process finds again."""

import os
from pathlib import Path

import pytest

from llm.native import library

SOURCE = ("attend.c", ("BF16=0", "FEATURES=16"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where caches are kept, and no library remembered in this process."""
    if library(*SOURCE) is None:
        pytest.skip("no compiler")
    library.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "humpty" / "native"


def test_the_next_process_compiles_nothing(home: Path, monkeypatch: pytest.MonkeyPatch):
    assert library(*SOURCE) is not None
    [kept] = home.iterdir()
    library.cache_clear()
    monkeypatch.setattr("llm.native.build", lambda *_: pytest.fail("compiled again"))
    assert library(*SOURCE) is not None
    assert [kept] == list(home.iterdir())


def test_other_values_are_another_library(home: Path):
    assert library("attend.c", ("BF16=0", "FEATURES=32")) is not None
    assert library(*SOURCE) is not None
    assert len(list(home.iterdir())) == 2


def test_a_folder_that_others_can_write_to_is_not_trusted(home: Path):
    home.mkdir(parents=True)
    os.chmod(home, 0o777)
    assert library(*SOURCE) is not None
    assert not list(home.iterdir())


def test_what_does_not_compile_leaves_nothing(home: Path):
    assert library("attend.c", ("BF16=2", "FEATURES=nonsense")) is None
    assert not list(home.iterdir())


def test_a_library_that_cannot_be_loaded_is_done_without(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("llm.native.build", lambda *given: given[-1].write_bytes(b"half of it"))
    assert library("attend.c", ("BF16=0", "FEATURES=80")) is None
