"""Web archives, good and broken: each gives its pages or says what is wrong."""

import gzip
import time
import zlib
from pathlib import Path

import pytest

from llm import read_web
from llm.config import TextConfig
from llm.damage import Damage
from llm.documents import read_documents
from llm.reading import Document
from llm.shards import list_shards, list_units


def read(path: Path) -> tuple[list[Document], list[Damage]]:
    config, damages = TextConfig(shards=(str(path),), format="warc"), []
    [unit] = list_units(list_shards(config.shards, "warc"))
    return list(read_documents(unit, config, damages.append)), damages


def record(kind: str, body: bytes, content_type: str, url: str = "http://x/") -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\n"
        f"WARC-Record-ID: <urn:uuid:0>\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def response(body: bytes, head: str = "Content-Type: text/html", status: int = 200) -> bytes:
    answer = f"HTTP/1.1 {status} X\r\n{head}\r\n\r\n".encode() + body
    return record("response", answer, "application/http; msgtype=response")


def written(folder: Path, content: bytes, name: str = "x.warc") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def page(text: str) -> str:
    return f"<html><body><nav>menu</nav><main><p>{text}</p></main></body></html>"


EXAMPLE, ARC = ["http://example.com/"], "is an ARC file, the format before WARC"

SUITE = {
    "bad.arc": ([], ARC),
    "example-bad-non-chunked.warc.gz": (EXAMPLE, ""),
    "example-bad.warc.gz.bad": ([], "Invalid WARC header"),  # compressed, but not by its name
    "example-digest.warc": ([], ""),  # four requests
    "example-iana.org-chunked.warc": (["http://www.iana.org/"], ""),
    "example-resource.warc.gz": (EXAMPLE, ""),
    "example-space-in-target-uri.warc.gz": ([], "is image/png"),
    "example-space-in-url.arc": ([], ARC),
    "example-trunc.warc": (EXAMPLE, "Invalid WARC header"),
    "example-wget-bad-target-uri.warc.gz": (EXAMPLE, "is a note of the crawler"),
    "example-wrong-chunks.warc.gz": (EXAMPLE, ""),
    "example.arc": ([], ARC),
    "example.arc.gz": ([], ARC),
    "example.warc": (EXAMPLE, ""),
    "example.warc.gz": (EXAMPLE, ""),
    "post-test.warc.gz": ([], "is application/json"),
}


@pytest.mark.parametrize("name", SUITE)
def test_archive_of_the_suite_gives_its_pages_and_says_what_is_wrong(
    shared_data: Path, name: str
) -> None:
    urls, said = SUITE[name]
    documents, damages = read(shared_data / "g_hostile/warc" / name)
    assert [document.url for document in documents] == urls
    assert all(said and said in damage.detail for damage in damages)
    assert bool(damages) == bool(said)
    for document in documents:
        if document.url == EXAMPLE[0]:
            assert document.text.startswith("Example Domain\n\nThis domain is established")


def test_suite_is_complete(shared_data: Path) -> None:
    assert {path.name for path in (shared_data / "g_hostile/warc").iterdir()} == set(SUITE)


def test_archive_cut_anywhere_says_so_unless_between_records(
    shared_data: Path, tmp_path: Path
) -> None:
    content = (shared_data / "g_hostile/warc/example.warc").read_bytes()
    starts = [488, 1197, 2566, 3370, 4316]  # of all records but the first
    borders = {start - ends for start in starts for ends in (0, 2, 4)}
    for cut in sorted({*range(1, len(content) - 4, 37), *starts} - borders | {*starts}):
        documents, damages = read(written(tmp_path, content[:cut]))
        files = [damage for damage in damages if damage.reason == "damaged file"]
        assert len(files) == (cut not in starts), cut
        assert len(documents) == (cut > 2561), cut  # 1197 + 390 of head + 975 of body


def test_only_the_main_content_of_a_page_is_its_text(tmp_path: Path) -> None:
    content = response(page("Text of the page.").encode())
    assert read(written(tmp_path, content))[0] == [("0", "Text of the page.", "http://x/")]


@pytest.mark.parametrize(
    ("encoding", "head", "meta"),
    [
        ("utf-8", "", ""),
        ("utf-8", "; charset=iso-8859-1", ""),  # UTF-8 is never something else by chance
        ("gb18030", "; charset=gb2312", ""),
        ("big5", "", '<meta charset="big5">'),
        ("gb18030", "", ""),
        ("utf-16", "", ""),
        ("gbk", "; charset=nonsense", '<meta http-equiv="Content-Type" content="x;charset=gbk">'),
    ],
)
def test_page_is_decoded_as_its_server_itself_or_its_bytes_say(
    tmp_path: Path, encoding: str, head: str, meta: str
) -> None:
    text = "床前明月光,疑是地上霜。我在中山的大家里, 他是人。"
    content = response((meta + page(text)).encode(encoding), f"Content-Type: text/html{head}")
    documents, damages = read(written(tmp_path, content))
    assert [document.text for document in documents] == [text]
    assert damages == []


def test_few_wrong_bytes_are_shown_and_many_are_reported(tmp_path: Path) -> None:
    head = "Content-Type: text/plain; charset=utf-8"
    good = "Größe und Maß. ".encode() * 40
    few = response(good + b"\xff\xfe\xff", head)
    many = response(b"\x81\x8d\x8f\x90\x9d" * 40, head)
    documents, [damage] = read(written(tmp_path, few + many))
    assert documents[0].text.endswith("Größe und Maß. \ufffd\ufffd\ufffd")
    assert damage.reason == "invalid encoding"


def test_answers_that_are_no_pages_are_counted_and_requests_are_not(tmp_path: Path) -> None:
    content = b"".join(
        [
            response(b"gone", status=404),
            response(b"\x89PNG", "Content-Type: image/png"),
            record("request", b"GET / HTTP/1.1\r\n\r\n", "application/http; msgtype=request"),
            record("conversion", b"plain text", "text/plain", "http://wet/"),
            response(b"<html><body></body></html>"),
        ]
    )
    documents, damages = read(written(tmp_path, content))
    assert [(document.text, document.url) for document in documents] == [
        ("plain text", "http://wet/")
    ]
    found = [(damage.reason, damage.detail[:29]) for damage in damages]
    assert found == [
        ("not a page", "is an answer with status 404"),
        ("not a page", "is image/png"),
        ("empty", "has no text but white space"),
    ]


def test_wet_is_found_by_its_name(tmp_path: Path) -> None:
    content = record("conversion", "Text, übersetzt".encode(), "text/plain")
    path = written(tmp_path, gzip.compress(content), "x.warc.wet.gz")
    [shard] = list_shards((str(path),), "auto")
    assert shard.format == "wet"
    assert [document.text for document in read(path)[0]] == ["Text, übersetzt"]


def test_record_and_payload_that_are_too_large_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_web, "MOST_PAGE_BYTES", 100_000)
    large = response(page("long " * 40_000).encode())
    bomb = zlib.compress(b"\0" * 50_000_000)
    packed = response(bomb, "Content-Type: text/html\r\nContent-Encoding: deflate")
    last = response(page("the last").encode())
    documents, damages = read(written(tmp_path, large + packed + last))
    assert [document.text for document in documents] == ["the last"]
    assert [damage.reason for damage in damages] == ["too large", "too large"]


def test_length_that_lies_is_a_cut_record(tmp_path: Path) -> None:
    good = response(page("good").encode())
    content = good + good.replace(b"Content-Length: ", b"Content-Length: 9")
    documents, [damage] = read(written(tmp_path, content))
    assert len(documents) == 1
    assert damage.reason == "damaged file"


def test_page_nested_without_end_takes_no_time(tmp_path: Path) -> None:
    content = response(b"<div>" * 200_000 + b"text")
    started = time.monotonic()
    _, [damage] = read(written(tmp_path, content))
    assert damage.reason == "damaged record"
    assert time.monotonic() - started < 5  # minutes if it were tried
