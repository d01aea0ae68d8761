"""One remote file for reading and seeking, over a client of fsspec's kind.

A network that fails is no damage of the file: it is an error for whoever runs the job, also where
damaged files are passed over, or else what a corpus contains would depend on the weather.
A web server need not give parts of files, so a file is fetched in one go when it is read from its
start, and by ranges only after a seek.
"""

import io
from typing import Any

from llm.errors import DataError


class RemoteFile(io.RawIOBase):
    """A file that its server sends; `name` is what the user calls it."""

    def __init__(self, client: Any, path: str, name: str) -> None:
        self.client, self.path, self.name = client, path, name
        self.at = 0
        self.source: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self.at, self.size() if whence == io.SEEK_END else 0)[whence]
        if base + offset != self.at:
            self.drop()
        self.at = base + offset
        return self.at

    def readinto(self, buffer: Any) -> int:
        try:
            if self.source is None:
                self.source = self.opened()
            data = self.source.read(len(buffer))
        except Exception as error:  # each client has exceptions of its own
            raise unreadable(self.name, error) from error
        buffer[: len(data)] = data
        self.at += len(data)
        return len(data)

    def opened(self) -> Any:
        """The client's file at the present position."""
        in_one_go = {"block_size": 0} if is_web(self.client) and self.at == 0 else {}
        source = self.client.open(self.path, "rb", **in_one_go)
        if self.at:
            source.seek(self.at)
        return source

    def size(self) -> int:
        """Bytes of the file."""
        return int(self.client.info(self.path)["size"])

    def drop(self) -> None:
        """Close the connection."""
        if self.source is not None:
            self.source.close()
            self.source = None

    def close(self) -> None:
        self.drop()
        super().close()


def is_web(client: Any) -> bool:
    """Whether a client speaks HTTP with a plain web server."""
    return "http" in client.protocol


def gives_parts(client: Any, path: str, size: int) -> bool:
    """Whether a server gives parts of a file; a web server is asked for the last byte."""
    if not is_web(client):
        return True
    try:
        with client.open(path, "rb", block_size=1, cache_type="none") as file:
            file.seek(size - 1)
            return len(file.read(1)) == 1
    except ValueError:  # "doesn't appear to support range requests"
        return False


def unreadable(name: str, error: Exception) -> DataError:
    """The error for a file whose server or network fails."""
    what = str(error) or type(error).__name__
    return DataError(f"{name}: cannot be read: {what}; check the network and the access rights")
