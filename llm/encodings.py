"""Encodings of text files: their names, whether lines can be found in their bytes, guessing."""

import codecs
import difflib
import io
from encodings.aliases import aliases
from typing import Any, BinaryIO

from llm.compression import open_unpacked
from llm.errors import DataError
from llm.guess_encoding import HEAD_BYTES, guessed

STATEFUL = ("hz", "iso2022", "utf-7")
"""Encodings in which a byte means another thing after a certain sequence, perhaps lines before."""

PORTION = 64 << 10


def check_encoding(name: str) -> None:
    """That Python knows an encoding, or that it is to be guessed."""
    if name != "detect":
        codec_name(name)


def codec_name(name: str) -> str:
    """Python's own name of an encoding of text."""
    try:
        codec = codecs.lookup(name)
        "a".encode(name)
    except (LookupError, UnicodeError, ValueError) as error:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), known(), 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise DataError(
            f"encoding: {name!r} is no encoding of text{hint}; give utf-8, gb18030, big5, "
            "utf-16, shift_jis, windows-1252, another one that Python knows, or detect"
        ) from error
    return "utf-8" if codec.name == "utf-8-sig" else codec.name


def known() -> list[str]:
    """Names that people write."""
    return sorted({*aliases, *aliases.values(), "detect"})


def has_plain_lines(encoding: str) -> bool:
    """Whether the byte 0x0A always ends a line, so that a file can be cut at it.

    So it is in UTF-8, GB18030, Big5, Shift JIS and all others that contain ASCII and no 0x0A
    inside a character; not in UTF-16, UTF-32, EBCDIC and those with states.
    """
    return "\nA".encode(encoding) == b"\nA" and not encoding.startswith(STATEFUL)


def mark_of(encoding: str) -> bytes:
    """The byte order mark that a file of this encoding may begin with."""
    return "\ufeff".encode(encoding, "ignore")


def recoded(file: BinaryIO, encoding: str) -> io.BufferedReader:
    """A file's text as UTF-8; closing it closes the file below."""
    return io.BufferedReader(Recoded(file, encoding), PORTION)


class Recoded(io.RawIOBase):
    """UTF-8 made of another encoding, a portion at a time."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self.file = file
        self.decoder = codecs.getincrementaldecoder(encoding)()
        self.waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.waiting:
            data = self.file.read(PORTION)
            self.waiting = self.decoder.decode(data, final=not data).encode()
            if not data:
                break
        part, self.waiting = self.waiting[: len(buffer)], self.waiting[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self.file.close()
        super().close()


def encoding_of(path: str, encoding: str) -> str | None:
    """Encoding of a file: as given, or guessed from its first 64 KiB; None if that is in vain."""
    if encoding != "detect":
        return codec_name(encoding)
    with open_unpacked(path) as file:
        head = file.read(HEAD_BYTES)
    return guessed(head, len(head) < HEAD_BYTES)
