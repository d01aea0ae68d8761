"""What is asked of a training from outside."""

import os
import signal
from pathlib import Path

import pytest

from llm.errors import ArtifactError
from llm.outside import Outside, Wish, Wishes, require_own, stopping_on_sigterm


def test_a_wish_to_save_is_granted_once_and_one_to_stop_until_the_end() -> None:
    wishes = Wishes()
    wishes.ask(Wish.SAVE)
    assert [wishes.take(), wishes.take()] == [Wish.SAVE, Wish.NOTHING]
    wishes.ask(Wish.STOP)
    assert [wishes.take(), wishes.take()] == [Wish.STOP, Wish.STOP]


def test_the_greater_wish_wins_in_either_order() -> None:
    for order in ((Wish.SAVE, Wish.STOP), (Wish.STOP, Wish.SAVE)):
        wishes = Wishes()
        for wish in order:
            wishes.ask(wish)
        assert wishes.take() == Wish.STOP


def test_sigterm_is_a_wish_to_stop() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        outside = stopping_on_sigterm(Outside())
        os.kill(os.getpid(), signal.SIGTERM)
        assert outside.wishes.take() == Wish.STOP
    finally:
        signal.signal(signal.SIGTERM, before)


def test_who_does_not_own_the_folder_any_more_is_told_so(tmp_path: Path) -> None:
    require_own(Outside(), tmp_path)
    with pytest.raises(ArtifactError, match="another run has taken over"):
        require_own(Outside(may_write=lambda: False), tmp_path)
