"""events.jsonl of an artifact: what befell it, one JSON object a line, `at` in unix seconds.

Unlike metrics.jsonl, which tells of every step once, it is never rewound: attempts, falls, steps
redone and checkpoints passed over stay on record. Several processes may write: a line is one
append. A line that a power cut has torn is passed over; the next writer starts a new one.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from llm.metrics import Event

NAME = "events.jsonl"


def note(folder: Path, event: str, **values: Any) -> None:
    """Append an event to the folder's record, and force it to disk."""
    line = json.dumps({"at": time.time(), "event": event, **values}) + "\n"
    handle = os.open(folder / NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(handle, (mend(handle) + line).encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def mend(handle: int) -> str:
    """What ends a torn last line: nothing, if all lines are whole."""
    size = os.fstat(handle).st_size
    return "\n" if size and os.pread(handle, 1, size - 1) != b"\n" else ""


def read(folder: Path) -> list[Event]:
    """The events in the order in which they were noted; none if nothing has befallen it."""
    path = folder / NAME
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [event for line in lines if (event := parsed(line)) is not None]


def parsed(line: bytes) -> Event | None:
    """A line's event; None if it is torn or empty."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and {"at", "event"} <= event.keys() else None
