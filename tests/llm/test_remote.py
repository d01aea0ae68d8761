"""Shards on servers of our own on loopback: S3 by moto, and web servers with and without ranges."""

import gzip
import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm.config import TextConfig
from llm.damage import Damage
from llm.documents import read_documents, read_unit
from llm.errors import DataError
from llm.shards import digest, list_shards, list_units
from tests.s3 import s3_server


def texts(*patterns: str, unit_bytes: int = 8) -> list[str]:
    config = TextConfig(shards=patterns, documents="line")
    units = list_units(list_shards(patterns, "auto"), unit_bytes)
    return [text for unit in units for text in read_unit(unit, config)]


def parquet(rows: list[str]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": rows}), file, row_group_size=2)
    return file.getvalue()


FILES = {
    "a.txt": b"one\ntwo\nthree\n",
    "b.jsonl.gz": gzip.compress(b'{"text": "packed"}\n'),
    "below/c d.parquet": parquet(["x", "y", "z"]),
}
EXPECTED = ["one", "two", "three", "packed", "x", "y", "z"]


# -- s3 --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a local S3 server, as the options of its URIs name it."""
    with s3_server("corpus") as (client, options):
        for name, content in FILES.items():
            client.put_object(Bucket="corpus", Key=f"text/{name}", Body=content)
        client.put_object(Bucket="corpus", Key="text/_hidden.txt", Body=b"no\n")
        yield options


def test_bucket_is_read_as_a_folder(bucket: str) -> None:
    assert texts(f"s3://corpus/text{bucket}") == EXPECTED
    assert texts(f"s3://corpus{bucket}") == EXPECTED


def test_bucket_is_read_by_file_and_glob(bucket: str) -> None:
    assert texts(f"s3://corpus/text/a.txt{bucket}") == EXPECTED[:3]
    assert texts(f"s3://corpus/text/*/*.parquet{bucket}") == EXPECTED[4:]


def test_bucket_has_a_digest_that_says_when_a_file_was_written_anew(bucket: str) -> None:
    shards = list_shards((f"s3://corpus/text{bucket}",), "auto")
    assert digest(shards) == digest(list_shards((f"s3://corpus/text{bucket}",), "auto"))


def test_missing_key_and_bucket_are_named(bucket: str) -> None:
    for uri in (f"s3://corpus/none.txt{bucket}", f"s3://nowhere/a.txt{bucket}"):
        with pytest.raises(DataError, match=r"cannot be listed|nothing is there"):
            list_shards((uri,), "auto")


# -- https -----------------------------------------------------------------------------------------


class Plain(http.server.SimpleHTTPRequestHandler):
    """A web server that sends whole files and knows no ranges."""

    def log_message(self, *args: Any) -> None:
        pass


class Ranges(Plain):
    """A web server that sends parts of files."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.asked.append(wanted)
        content = Path(self.translate_path(self.path)).read_bytes()
        if not wanted:
            return super().do_GET()
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        self.wfile.write(part)


class Silent(Plain):
    """A web server that does not say how large a file is."""

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Content-Length":
            super().send_header(keyword, value)


class Failing(Plain):
    """A web server that breaks off after 100 bytes."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        outputfile.write(source.read(100))
        self.close_connection = True


@pytest.fixture
def web(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server of the files."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    handler: Any = request.param
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: handler(*args, directory=str(tmp_path))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("web", [Plain, Ranges], indirect=True)
def test_files_are_read_over_http(web: str) -> None:
    assert texts(f"{web}/a.txt?download=1") == EXPECTED[:3]
    assert texts(f"{web}/b.jsonl.gz") == ["packed"]


@pytest.mark.parametrize("web", [Ranges], indirect=True)
def test_server_with_ranges_sends_only_what_is_wanted(web: str) -> None:
    assert texts(f"{web}/below/c%20d.parquet") == ["x", "y", "z"]
    shards = list_shards((f"{web}/a.txt",), "auto")
    assert [(unit.start, unit.stop) for unit in list_units(shards, 8)] == [(0, 8), (8, 14)]
    assert texts(f"{web}/a.txt") == EXPECTED[:3]


@pytest.mark.parametrize("web", [Plain], indirect=True)
def test_file_of_a_server_without_ranges_is_one_unit(web: str) -> None:
    [shard] = list_shards((f"{web}/a.txt",), "auto")
    assert not shard.parts
    assert [(unit.start, unit.stop) for unit in list_units([shard], 4)] == [(0, 14)]
    with pytest.raises(DataError, match=r"parquet.*range requests"):
        texts(f"{web}/below/c%20d.parquet")


@pytest.mark.parametrize("web", [Silent], indirect=True)
def test_file_of_unknown_size_is_refused(web: str) -> None:
    with pytest.raises(DataError, match=r"a\.txt: its server does not say how large it is"):
        texts(f"{web}/a.txt")


@pytest.mark.parametrize("web", [Plain], indirect=True)
def test_missing_page_is_named(web: str) -> None:
    with pytest.raises(DataError, match=r"none\.txt: cannot be listed"):
        list_shards((f"{web}/none.txt",), "auto")


@pytest.mark.parametrize("web", [Failing], indirect=True)
def test_failing_network_is_an_error_also_where_damage_is_passed_over(
    web: str, tmp_path: Path
) -> None:
    (tmp_path / "long.txt").write_bytes(b"line\n" * 100_000)
    config = TextConfig(shards=(f"{web}/long.txt",), documents="line")
    [unit, *_] = list_units(list_shards(config.shards, "auto"))
    damages: list[Damage] = []
    with pytest.raises(DataError, match=r"long\.txt: cannot be read: .*check the network"):
        list(read_documents(unit, config, damages.append))
    assert damages == []
