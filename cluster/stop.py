"""Ctrl-C, SIGTERM and a closed terminal while a training runs: it saves and ends, and so does the
driver.

Ray Train's own handler would end the program without a checkpoint, and with exit code 0; it is not
installed where `fit` runs beside the main thread.
"""

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stop:
    """Whether somebody has asked for the end; the second time ends at once."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, *_: Any) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        elif self.asked:
            raise KeyboardInterrupt
        self.asked = True


def interrupt(number: int, *_: Any) -> None:
    """What Ctrl-C does outside trainings."""
    if number == signal.SIGHUP:
        leave_terminal()
    raise KeyboardInterrupt


def leave_terminal() -> None:
    """Write nowhere from now on: who writes to a terminal that is closed gets an error."""
    for output in (1, 2):
        if stat.S_ISCHR(os.fstat(output).st_mode):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, output)
            os.close(nowhere)


@contextmanager
def heard(handler: Callable[..., None]) -> Iterator[None]:
    """Inside the block a handler gets all signals that ask for the end, but not those that nohup
    keeps away."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {one: signal.getsignal(one) for one in numbers}
    for number, known in before.items():
        if known is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known or signal.SIG_DFL)


@contextmanager
def hangups_kept_away() -> Iterator[None]:
    """Processes started inside the block outlive a closed terminal, as with nohup.

    Ray keeps Ctrl-C away from its own, but not this; without them nothing could be saved.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextmanager
def asked_to_stop() -> Iterator[Stop]:
    """Inside the block, Ctrl-C, SIGTERM and SIGHUP are requests."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    with heard(stop):
        yield stop
