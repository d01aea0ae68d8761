"""How far a training came before it fell: its last step and when that was, written at every step.

A checkpoint tells where to go on, the pulse what was trained after it and is to be trained again.
It is 16 bytes written in place, a few microseconds, and not forced to disk: it outlives any process
that is killed; after a power cut an older one may be found, and less counts as redone.
"""

import os
import socket
import struct
import time
from pathlib import Path

from llm.events import note, read
from llm.metrics import Event, RunLog

NAME = "pulse"

LAYOUT = struct.Struct("<qd")
"""Step, unix time."""


def last_pulse(folder: Path) -> tuple[int, float] | None:
    """The last step of the training in this folder, and when it was done."""
    try:
        content = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return None
    return LAYOUT.unpack(content) if len(content) == LAYOUT.size else None


class Falls:
    """Notes a training's attempts, and when it stands again where it fell; one for each attempt.

    Without a folder it does nothing: only the first process keeps account. Call `started` once the
    state is loaded (again after a roll back), `stepped` after every step, and at the end either
    `ended` or, if somebody asked for it, `stopped`.
    """

    def __init__(self, folder: Path | None, log: RunLog) -> None:
        self.folder, self.log = folder, log
        self.began = self.reached = 0
        self.fell_at: float | None = None
        """When the last step before the fall was done, until that step is reached again."""
        self.handle: int | None = None

    def started(self, step: int, workers: int) -> None:
        """An attempt goes on from `step`."""
        if not self.folder:
            return
        before = broken_off(read(self.folder))
        last = last_pulse(self.folder) if before else None
        self.began, self.reached, self.fell_at = step, step, None
        facts: Event = {}
        if before:
            last = max(last or (0, 0.0), (before["step"], before["at"]), key=lambda one: one[1])
            self.reached = max(step, before["reached"], last[0])
            self.fell_at = last[1]
            facts = {"fell_after": last[0], "fell_at": last[1]}
        host, pid = socket.gethostname(), os.getpid()
        values = {"workers": workers, "reached": self.reached, **facts, "pid": pid, "host": host}
        note(self.folder, "begin", step=step, **values)
        if self.handle is None:
            self.handle = os.open(self.folder / NAME, os.O_WRONLY | os.O_CREAT, 0o666)

    def stepped(self, step: int) -> None:
        """A step is done."""
        if self.handle is None:
            return
        now = time.time()
        os.pwrite(self.handle, LAYOUT.pack(step, now), 0)
        if self.fell_at is not None and step >= self.reached:
            self._again(step, now - self.fell_at)

    def stopped(self, step: int) -> None:
        """The attempt ends as somebody asked it to; what comes next is no fall."""
        self._close("stopped", step)

    def ended(self, step: int) -> None:
        """The training is done."""
        if self.fell_at is not None:  # after its last step
            self._again(step, time.time() - self.fell_at)
        self._close("end", step)

    def _again(self, step: int, lost: float) -> None:
        """It stands where it fell."""
        assert self.folder
        facts = {"reached": self.reached, "redone": self.reached - self.began}
        values = {"step_from": self.began, **facts, "lost": round(lost, 3)}
        self.fell_at = None
        note(self.folder, "again", step=step, **values)
        self.log("again", step, **values)

    def _close(self, event: str, step: int) -> None:
        if self.handle is not None and self.folder:
            note(self.folder, event, step=step)
            os.close(self.handle)
            self.handle = None


def broken_off(events: list[Event]) -> Event | None:
    """The beginning of the attempt before, if it ended unplanned."""
    last = next((e for e in reversed(events) if e["event"] in ("begin", "stopped", "end")), None)
    return last if last and last["event"] == "begin" else None
