"""A file of JSON lines that one process appends to and that no crash can spoil.

    append: write, force to disk, return       -> what was acknowledged is there
    killed in the middle of a line             -> that line is cut off when the file is opened again
    replace: new file beside it, forced, renamed -> the old lines or the new ones, never a mixture

The lock is flock's on a file beside it: it falls when its process dies, however that happens, so no
stale lock needs to be removed by hand.
"""

import fcntl
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json

from llm.errors import DataError
from llm.files import replacing, sync_folder


class Span(NamedTuple):
    """Where a line lies: bytes, its end included."""

    start: int
    length: int


class Journal:
    """The only writer of a file; `close` lets others in."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = locked(path.with_suffix(".lock"))
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            left.unlink()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        sync_folder(path.parent)
        self.bytes = whole(self._file)
        if self.bytes < os.fstat(self._file).st_size:
            os.ftruncate(self._file, self.bytes)
            os.fsync(self._file)

    def append(self, line: bytes) -> Span:
        """Put a line at the end and on disk; if that fails the file is as before."""
        assert b"\n" not in line
        data, span = line + b"\n", Span(self.bytes, len(line) + 1)
        try:
            write_all(self._file, data, span.start)
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, span.start)
            raise
        self.bytes += span.length
        return span

    def read(self, span: Span) -> bytes:
        """A line."""
        return os.pread(self._file, span.length, span.start)

    def lines(self) -> Iterator[tuple[Span, bytes]]:
        """All lines, in order."""
        start = 0
        with open(self.path, "rb") as file:
            for line in file:
                yield Span(start, len(line)), line
                start += len(line)

    def replace(self, lines: Iterable[bytes]) -> None:
        """Other lines in place of all, in one step; each with its line end."""
        with replacing(self.path) as file:
            os.fchmod(file.fileno(), 0o600)
            file.writelines(lines)
        os.close(self._file)
        self._file = os.open(self.path, os.O_RDWR)
        self.bytes = os.fstat(self._file).st_size

    def close(self) -> None:
        """Let another process write."""
        os.close(self._file)
        os.close(self._lock)


def locked(path: Path) -> int:
    """A handle on a lock file that nobody else has locked."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(handle)
        raise DataError(
            f"{path.parent}: {owner} is writing feedback there, and only one may; stop it, or give "
            "this server a folder of its own: feedback: {folder: ...}"
        ) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return handle


def write_all(handle: int, data: bytes, start: int) -> None:
    """Bytes at a place of a file, however many the system takes at once."""
    while data:
        done = os.pwrite(handle, data, start)
        data, start = data[done:], start + done


def whole(handle: int) -> int:
    """Bytes up to the end of the last whole line.

    A power cut can leave a last line with its end but holes in its middle, as blocks reach the disk
    in any order; so the last line has to be JSON as well.
    """
    size = os.fstat(handle).st_size
    end = line_end(handle, size)
    start = line_end(handle, end - 1)
    try:
        from_json(os.pread(handle, end - start, start) or b"0")
    except ValueError:
        return start
    return end


def line_end(handle: int, stop: int) -> int:
    """Where the last line end before `stop` ends; 0 without one."""
    while stop > 0:
        start = max(0, stop - (1 << 16))
        found = os.pread(handle, stop - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        stop = start
    return 0
