"""Headers of a request, and what may be wrong with them. Nobody's word is taken twice: a header
that must be there once and is there twice counts as missing, since the next one down the line might
believe the other."""

import re
import secrets
from urllib.parse import urlsplit

from deploy.asgi import Headers, Scope
from deploy.errors import ApiError
from llm.errors import SpecError

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

MOST_HEADERS = 100


def request_id(headers: Headers) -> str:
    """The caller's, if it can be put into a log as it is; else one of ours."""
    given = one(headers, b"x-request-id")
    if given is not None and REQUEST_ID.fullmatch(given):
        return given.decode()
    return f"req-{secrets.token_hex(16)}"


def one(headers: Headers, name: bytes) -> bytes | None:
    """The value of a header that is there once; None if it is missing or ambiguous."""
    values = [value for known, value in headers if known.lower() == name]
    return values[0] if len(values) == 1 else None


def check_size(scope: Scope, headers: Headers, most: int) -> None:
    """Refuse long request lines and headers; they are small before they are looked at."""
    size = len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string", b""))
    size += sum(len(name) + len(value) + 4 for name, value in headers)
    if size > most or len(headers) > MOST_HEADERS:
        raise ApiError(
            431,
            "headers_too_large",
            f"the request line and headers have {size} bytes in {len(headers)} headers; allowed "
            f"are {most} bytes in {MOST_HEADERS}",
            headers={"connection": "close"},
        )


def is_preflight(scope: Scope, headers: Headers) -> bool:
    """Whether a browser asks before a page asks."""
    wanted = one(headers, b"access-control-request-method")
    return scope["method"] == "OPTIONS" and wanted is not None


def check_type(headers: Headers) -> None:
    """Only JSON: forms, which pages elsewhere may send without asking first, are none."""
    given = (one(headers, b"content-type") or b"").split(b";")[0].strip().lower()
    if given != b"application/json":
        raise ApiError(
            415,
            "unsupported_media_type",
            "the body must be JSON; send the header `Content-Type: application/json`",
        )


def host_of(header: bytes | None) -> str | None:
    """The name in a Host header, without its port."""
    try:
        return urlsplit("//" + (header or b"").decode("ascii")).hostname
    except ValueError:
        return None


def checked_origin(origin: str) -> bytes:
    """An origin as browsers write it."""
    parts = urlsplit(origin)
    plain = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in ("http", "https") or not parts.netloc or origin != plain:
        raise SpecError(
            f"serve: cors: {origin!r} is no origin; write scheme, host and port alone, for example "
            "https://chat.example.org"
        )
    return origin.encode()
