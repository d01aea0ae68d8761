"""A plan that does not fit is refused by name, largest part first."""

import pytest

from llm.errors import TrainingError
from llm.room import memory_of, require_room
from llm.world import CPU


def test_what_fits_is_let_through() -> None:
    require_room({"policy": 3, "critic": 4}, 7)


def test_what_does_not_fit_is_told_with_its_parts() -> None:
    with pytest.raises(
        TrainingError, match=r"about 9 GB of memory \(critic 8 GB, policy 1 GB\) and has 7 GB"
    ):
        require_room({"policy": 10**9, "critic": 8 * 10**9}, 7 * 10**9)


def test_processes_of_a_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    whole = memory_of(CPU)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert whole > 100 << 20
    assert memory_of(CPU) == whole // 4
