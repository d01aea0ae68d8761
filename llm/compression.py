"""Compressed files as streams of their text; nothing is ever unpacked to disk.

gzip and zstd by pyarrow: it goes on through concatenated parts and says when a stream is cut short,
which python-zstandard does not; 900 and 1,500 MB/s. It reads little at a time, since what it has
read when it meets damage is lost. A bomb is recognised by its ratio: 1 GiB of zeros fits into
32 KiB of zstd; text hardly reaches 100:1.
"""

import io
from typing import Any, BinaryIO

from llm.filesystem import is_uri, open_file

ALGORITHMS = {".gz": "gzip", ".zst": "zstd"}

PORTION = 16 << 10

MOST_RATIO, HARMLESS_BYTES = 1000, 64 << 20
"""A text may not be so many times its file's size once it is longer than this."""


class Bomb(ValueError):
    """A file that unpacks to much more than text does."""


def name_of(path: str) -> str:
    """Last part of a path in lower case, without a URI's options."""
    path = path.partition("?")[0] if is_uri(path) else path
    return path.rpartition("/")[2].lower()


def algorithm_of(path: str) -> str | None:
    """How a file is compressed, by its name."""
    return next((a for suffix, a in ALGORITHMS.items() if name_of(path).endswith(suffix)), None)


def open_unpacked(path: str) -> io.BufferedReader:
    """A file without its compression; closing it closes the file below."""
    file = open_file(path)
    algorithm = algorithm_of(path)
    return io.BufferedReader(Unpacked(file, algorithm), 4 * PORTION) if algorithm else file


class Unpacked(io.RawIOBase):
    """A compressed file's content, as long as it stays in proportion."""

    def __init__(self, file: BinaryIO, algorithm: str) -> None:
        import pyarrow as pa

        self.packed = Counted(file)
        self.stream: Any = pa.CompressedInputStream(pa.PythonFile(self.packed, "r"), algorithm)
        self.unpacked = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.unpacked

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(min(len(buffer), PORTION))
        self.unpacked += len(data)
        if self.unpacked > max(HARMLESS_BYTES, MOST_RATIO * self.packed.count):
            raise Bomb(
                f"its first {self.packed.count} bytes unpack to more than {self.unpacked}, over "
                f"{MOST_RATIO} to 1"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.packed.close()
        super().close()


class Counted(io.RawIOBase):
    """A file that knows how many of its bytes were read."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.count += len(data)
        return data

    def close(self) -> None:
        self.file.close()
        super().close()


def declared_bytes(path: str, size: int) -> int:
    """Size of a compressed text as far as the file tells: gzip's last part, zstd's first frame."""
    with open_file(path) as file:
        if algorithm_of(path) == "gzip":  # RFC 1952: the last four bytes, modulo 4 GiB
            file.seek(max(0, size - 4))
            return max(size, int.from_bytes(file.read(4), "little"))
        return max(size, frame_bytes(file.read(18)))


def frame_bytes(head: bytes) -> int:
    """Content size in the header of a zstd frame; 0 if it has none."""
    import zstandard

    try:
        return max(0, zstandard.frame_content_size(head))
    except zstandard.ZstdError:
        return 0
