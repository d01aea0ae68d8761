"""Documents of web archives: WARC (what servers answered) and WET (texts made of that).

A record is read whole, 16 MiB at most, before its HTTP head is parsed: only so does it show that
it is cut short. HTML becomes text by resiliparse, which keeps the main content of a page: no menus,
no footers. A page with elements nested 2,000 deep is not tried, since resiliparse takes time with
the square of it: nine seconds for 20,000.
"""

import re
from collections.abc import Iterator
from email.message import Message
from typing import Any, BinaryIO, cast

from llm.compression import open_unpacked
from llm.damage import Reason
from llm.guess_encoding import page_text
from llm.reading import Document, Reading

MOST_PAGE_BYTES = 16 << 20
"""Common Crawl keeps 5 MiB of a page."""

MOST_DEPTH = 2000

NESTED = re.compile(r"<(/?)(?:div|article)\b", re.IGNORECASE)

HTML = ("text/html", "application/xhtml+xml")


class Refused(Exception):
    """Why a record gives no text."""

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(what)
        self.reason, self.what = reason, what


def read_web(reading: Reading) -> Iterator[Document]:
    """The pages and texts of an archive; requests and notes of the crawler are none."""
    from fastwarc.warc import ArchiveIterator

    with open_unpacked(reading.unit.path) as file:
        if is_arc(file):
            what = "is an ARC file, the format before WARC; convert it: warcio recompress"
            return reading.report("damaged file", "", what)
        source = Source(file)
        stream = cast(Any, source)  # fastwarc asks for no more than Source has
        for record in ArchiveIterator(stream, parse_http=False, stream_detect=False):
            place = str(record.stream_pos)
            try:
                text = text_of(record)
            except Refused as error:
                reading.report(error.reason, place, error.what, record.content_length)
                if error.reason == "damaged file":
                    return
            else:
                if text is not None:
                    yield Document(place, text, url_of(record))
        if not source.tail.endswith((b"\r\n\r\n", b"\n\n")):
            reading.report("damaged file", "", "ends inside a record; the file is incomplete")


def is_arc(file: BinaryIO) -> bool:
    """Whether a file begins as archives did before 2009."""
    return cast(Any, file).peek(16).startswith(b"filedesc://")


class Source:
    """An archive's bytes as they come, so that damage does not take what was read before it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file: Any = file
        self.tail = b""

    def tell(self) -> int:
        """Where the archive begins; fastwarc asks once."""
        return 0

    def read(self, size: int) -> bytes:
        """At most so many bytes."""
        data: bytes = self.file.read1(size)
        self.tail = (self.tail + data[-4:])[-4:]
        return data


def text_of(record: Any) -> str | None:
    """The text of a page; None if the record is no page."""
    from fastwarc.warc import WarcRecordType

    pages = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
    is_page = bool(int(record.record_type) & int(pages))
    if record.content_length > MOST_PAGE_BYTES and not is_page:
        return None
    body = record.reader.read(checked_size(record.content_length))
    if len(body) < record.content_length:
        what = f"is cut short after {len(body)} of {record.content_length} bytes"
        raise Refused("damaged file", f"{what}; the file is incomplete")
    if not is_page:
        return None
    body = payload(record, body)
    kind, charset = media_of(record, body)
    if problem := no_page(record, kind):
        raise Refused("not a page", problem)
    page = page_text(body, charset)
    if page is None:
        what = "has bytes that mean nothing in the encoding it names or seems to have"
        raise Refused("invalid encoding", what)
    return main_text(page) if kind in HTML else page


def checked_size(size: int) -> int:
    """A number of bytes that may be in memory."""
    if size > MOST_PAGE_BYTES:
        what = f"is a record of {size} bytes or more; {MOST_PAGE_BYTES} are read at most"
        raise Refused("too large", what)
    return size


def payload(record: Any, body: bytes) -> bytes:
    """What a server sent below its HTTP head, without transfer and content encodings."""
    record.set_bytes_content(body)
    if record.is_http:
        try:
            record.parse_http(auto_decode="all", strict_mode=False)
        except (OSError, ValueError) as error:
            what = f"has an HTTP head that cannot be read: {error}"
            raise Refused("damaged record", what) from error
    body = record.reader.read(MOST_PAGE_BYTES + 1)  # unpacked, so perhaps more than there was
    checked_size(len(body))
    return body


def media_of(record: Any, body: bytes) -> tuple[str, str | None]:
    """Media type and character set of a record: as it says, or as it looks."""
    from resiliparse.parse.encoding import detect_mime

    headers = record.http_headers if record.is_http else record.headers
    said = Message()
    said["Content-Type"] = headers.get("Content-Type") or detect_mime(body)
    return said.get_content_type(), said.get_content_charset()


def no_page(record: Any, kind: str) -> str:
    """Why a record is no text that somebody published, or nothing."""
    status = record.http_headers.status_code if record.is_http else 200
    if status != 200:
        return f"is an answer with status {status}"
    if url_of(record).startswith("metadata:"):
        return "is a note of the crawler"
    return "" if kind in (*HTML, "text/plain") else f"is {kind}"


def url_of(record: Any) -> str:
    """The address of a record; wget writes it in angle brackets."""
    return (record.headers.get("WARC-Target-URI") or "").strip("<>")


def main_text(page: str) -> str:
    """The main content of a page of HTML."""
    from resiliparse.extract.html2text import extract_plain_text

    if is_deep(page):
        raise Refused("damaged record", f"has elements more than {MOST_DEPTH} deep in one another")
    return extract_plain_text(page, main_content=True, alt_texts=False)


def is_deep(page: str) -> bool:
    """Whether the elements that take time with the square of their depth are too deep."""
    depth = 0
    for tag in NESTED.finditer(page):
        depth += -1 if tag[1] else 1
        if depth > MOST_DEPTH:
            return True
    return False
