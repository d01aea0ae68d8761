"""Finding and opening files: on disk by `os` and `open`, at URIs by fsspec.

A path without `scheme://` never touches pyarrow or fsspec, so that listing a local folder costs
milliseconds. s3, gs and hdfs go through pyarrow's own clients, every other scheme (https, memory,
abfs, hf ...) through fsspec's. Hidden files, whose name or folder begins with `.` or `_`, are left
out of folders and globs, as Spark and Ray do; a file that is named outright is always taken.
"""

import glob
import io
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import unquote

from llm.errors import DataError
from llm.remote_file import RemoteFile, gives_parts

ARROW_SCHEMES = ("s3", "gs", "hdfs")

PACKAGES = {"http": "aiohttp", "https": "aiohttp", "gcs": "gcsfs", "s3a": "s3fs", "abfs": "adlfs"}
"""What fsspec needs for a scheme where its own extra is not called like the scheme."""


@dataclass(frozen=True)
class Found:
    """A file: where it is, its size, and a mark that changes when its content does."""

    path: str
    bytes: int
    version: str
    parts: bool = True
    """Whether its server gives parts of it."""
    problem: str = ""
    """Why it cannot be opened."""


@dataclass(frozen=True)
class Match:
    """What a pattern stands for."""

    kind: Literal["file", "folder", "glob"]
    files: list[Found]


def is_uri(path: str) -> bool:
    """Whether a path needs a client rather than the operating system."""
    return "://" in path


def find(pattern: str) -> Match:
    """The files that a path, folder, glob or URI stands for, in no particular order."""
    if pattern.startswith("file://"):
        pattern = unquote(pattern.removeprefix("file://"))
    try:
        return find_remote(pattern) if is_uri(pattern) else find_local(pattern)
    except DataError:
        raise
    except Exception as error:  # each client has exceptions of its own
        what = str(error) or type(error).__name__
        raise DataError(
            f"shards: {pattern}: cannot be listed: {what}; check the path and the access rights"
        ) from error


def open_file(path: str) -> io.BufferedReader:
    """A file for reading and seeking; the caller closes it."""
    if not is_uri(path):
        return open(path, "rb")
    system = connect(path)
    return io.BufferedReader(RemoteFile(system.client, system.path(path), path), 1 << 18)


# -- on disk ---------------------------------------------------------------------------------------


def find_local(pattern: str) -> Match:
    """`find` for a path of this machine; the paths found are absolute."""
    path = os.path.expanduser(pattern)
    if os.path.isdir(path):
        return Match("folder", [local_file(name) for name in walk(path)])
    if os.path.exists(path):
        return Match("file", [local_file(path)])
    if glob.has_magic(path):
        names = filter(os.path.isfile, glob.iglob(path, recursive=True))
        return Match("glob", [local_file(name) for name in names if visible(name)])
    raise DataError(
        f"shards: {pattern}: there is no such file or folder (looked in {os.getcwd()}); "
        "give an existing file, a folder, a glob or a URI"
    )


def walk(folder: str) -> Iterator[str]:
    """All visible files below a folder; linked folders are followed, though in no circle."""
    entered = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        entered.add(os.path.realpath(here))
        folders[:] = [name for name in folders if visible(name)]
        folders[:] = [n for n in folders if os.path.realpath(os.path.join(here, n)) not in entered]
        yield from (os.path.join(here, name) for name in names if visible(name))


def visible(path: str) -> bool:
    """Whether a file or folder is not hidden by its own name."""
    return not os.path.basename(path).startswith((".", "_"))


def local_file(path: str) -> Found:
    """Size and version of a file on disk."""
    place = os.path.abspath(path)
    try:
        info = os.stat(path)
    except OSError as error:
        return Found(place, 0, "", problem=f"cannot be opened: {error.strerror}")
    if not stat.S_ISREG(info.st_mode):
        return Found(place, 0, "", problem="is not a regular file; name files or folders of text")
    return Found(place, info.st_size, str(info.st_mtime_ns))


# -- at a URI --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Remote:
    """A client of a remote file system, and how its paths and our URIs become each other."""

    client: Any
    path: Callable[[str], str]
    uri: Callable[[str], str]


def connect(uri: str) -> Remote:
    """The client for a URI."""
    scheme, _, rest = uri.partition("://")
    if scheme in ARROW_SCHEMES:
        rest, mark, options = rest.partition("?")
        return connect_arrow(scheme, rest.partition("/")[0], mark + options)
    return connect_fsspec(scheme, uri)


@lru_cache(maxsize=32)  # looking up a bucket's region costs a request
def connect_arrow(scheme: str, host: str, options: str) -> Remote:
    """pyarrow's client for one bucket; only the bucket's name is parsed as a URI, never a key."""
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import FileSystem

    client, base = FileSystem.from_uri(f"{scheme}://{host}{options}")
    root = f"{scheme}://{host}"
    return Remote(
        ArrowFSWrapper(client),
        path=lambda uri: base + uri.removesuffix(options).removeprefix(root),
        uri=lambda path: root + path.removeprefix(base) + options,
    )


def connect_fsspec(scheme: str, uri: str) -> Remote:
    """fsspec's client; one that is not installed is an error that says what to install."""
    try:
        from fsspec.core import url_to_fs

        client, _ = url_to_fs(uri)
    except ImportError as error:
        package = PACKAGES.get(scheme, f"'fsspec[{scheme}]'")
        raise DataError(f"shards: {uri}: {error}; run: pip install {package}") from error
    return Remote(client, path=client._strip_protocol, uri=client.unstrip_protocol)


def find_remote(uri: str) -> Match:
    """`find` for a URI. Its globs are made of `*` and `[...]`; `?` begins a URI's options."""
    system = connect(uri)
    path = system.path(uri)
    kind, infos = look(system.client, path)
    below = len(path.rstrip("/")) if kind == "folder" else 0
    files = [
        remote_file(system, info)
        for info in infos
        if info["type"] == "file" and (kind == "file" or all_visible(info["name"][below:]))
    ]
    return Match(kind, files)


def remote_file(system: Remote, info: dict[str, Any]) -> Found:
    """A remote file as its server describes it."""
    uri, size = system.uri(info["name"]), info.get("size")
    if size is None:
        what = "its server does not say how large it is; download it and give the local path"
        return Found(uri, 0, "", problem=what)
    parts = gives_parts(system.client, info["name"], size) if size else True
    return Found(uri, size, version(info), parts)


def look(client: Any, path: str) -> tuple[Literal["file", "folder", "glob"], list[dict[str, Any]]]:
    """What is at a path of a remote file system: entries with name, type, size."""
    if "*" in path or "[" in path:
        return "glob", list(client.glob(path, detail=True).values())
    info = client.info(path)
    if info["type"] == "file":
        return "file", [info]
    return "folder", list(client.find(path, detail=True).values())


def all_visible(path: str) -> bool:
    """Whether no part of a path is hidden."""
    return all(visible(part) for part in path.split("/"))


def version(info: dict[str, Any]) -> str:
    """What tells two versions of a remote file apart, as far as its server says; or nothing."""
    keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "Last-Modified", "last_modified")
    return next((str(info[key]) for key in (*keys, "created") if info.get(key)), "")
