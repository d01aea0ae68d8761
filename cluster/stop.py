"""Ctrl-C and SIGTERM while a training runs: it saves and ends, and so does the driver.

Ray Train's own handler would end the program without a checkpoint, and with exit code 0; it is not
installed where `fit` runs beside the main thread.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stop:
    """Whether somebody has pressed Ctrl-C or sent SIGTERM; the second time ends at once."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, *_: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def asked_to_stop() -> Iterator[Stop]:
    """Inside the block, Ctrl-C and SIGTERM are requests."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop) for number in signals]
    try:
        yield stop
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
