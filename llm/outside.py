"""What a training tells whoever started it, and what it is told, while it runs.

The same record serves plain python, torchrun and Ray Train; only who stands behind it differs.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from llm.errors import ArtifactError
from llm.metrics import Emit, Event

Strategy = Literal["ddp", "fsdp", "hsdp"]

Beat = Callable[[str, int], None]
"""Told (doing, step) whenever a process gets on: `forward`, `validation`, `save`, and `step` when
all of a step is done."""


class Wish(IntEnum):
    """What somebody outside wants of a training; the larger wins."""

    NOTHING = 0
    SAVE = 1
    """Save now, as this machine may soon be gone, and go on."""
    STOP = 2
    """Save now and end."""


class Wishes:
    """A place to leave wishes, from any thread or signal handler; the training looks every step."""

    def __init__(self) -> None:
        self.wish = Wish.NOTHING

    def ask(self, wish: Wish) -> None:
        """Leave a wish."""
        self.wish = max(self.wish, wish)

    def take(self) -> Wish:
        """The wish that waits; one to save is granted once."""
        wish = self.wish
        if wish == Wish.SAVE:
            self.wish = Wish.NOTHING
        return wish


def silent(_: Event) -> None:
    """Nobody watches."""


def always() -> bool:
    """Nobody else writes here."""
    return True


def unheard(_: str, __: int) -> None:
    """Nobody listens for signs of life."""


@dataclass(frozen=True)
class Outside:
    """The training's only ties to the world around it."""

    emit: Emit = silent
    """Gets every event of the log (first process only)."""
    wishes: Wishes = field(default_factory=Wishes)
    """What this process is asked for; all processes act on the greatest wish of any of them."""
    may_write: Callable[[], bool] = always
    """Whether this run still owns its folder; asked before anything is committed to it."""
    beat: Beat = unheard
    """Gets this process's signs of life."""
    strategy: Strategy = "ddp"
    """How processes share the model."""


def require_own(outside: Outside, folder: Path) -> None:
    """Refuse to write where another run has taken over."""
    if not outside.may_write():
        raise ArtifactError(
            f"{folder}: another run has taken over this folder, since this one did not renew its "
            "lease in time; this one ends here and has changed nothing of the other's"
        )


def stopping_on_sigterm(outside: Outside) -> Outside:
    """The same, and SIGTERM makes the training save and end."""

    def stop(*_: Any) -> None:
        outside.wishes.ask(Wish.STOP)

    signal.signal(signal.SIGTERM, stop)
    return outside
