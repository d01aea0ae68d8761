"""Writing files so that a power cut leaves the old one or the new one, never half of one.

The bytes go to a temporary name in the same folder, are forced to disk, and take the final name
in one rename; then the folder entry itself is forced to disk.
"""

import errno
import hashlib
import json
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk, so that renames in it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to be written that takes its name when the block has ended well.

    Its folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content` in one step."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as readable JSON, in one step."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


class Appender:
    """A file held open, to which whole pieces are added.

    Whoever replaces the file makes an end of it: what a process that has outlived its time still
    adds goes to the old file, and harms nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        weakref.finalize(self, os.close, self.handle)

    def add(self, content: str) -> None:
        """Write in one go; half of it, on a full disk, is an error."""
        piece = content.encode()
        if os.write(self.handle, piece) != len(piece):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def sync(self) -> None:
        """Force it to disk."""
        os.fsync(self.handle)


def sha256(path: Path) -> str:
    """Hex digest of a file's content, read in portions."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
