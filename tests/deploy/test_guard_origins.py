"""Pages of other sites: only listed origins may ask."""

import pytest

from llm.errors import SpecError
from tests.deploy.guarding import AUTH, Echo, ask, guarded, unguarded

PAGE = "https://chat.example.org"

PREFLIGHT = (
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "authorization,content-type,x-stainless-os"),
)


def test_pages_elsewhere_may_not_ask() -> None:
    app = Echo()
    reply = ask(unguarded(app), "OPTIONS", headers=(("origin", PAGE), *PREFLIGHT))
    assert reply.status == 403 and not app.seen
    reply = ask(unguarded(), headers=(("origin", PAGE),))
    assert "access-control-allow-origin" not in reply.headers


def test_a_listed_origin_may_ask() -> None:
    guard = guarded(cors=(PAGE,))
    reply = ask(guard, "OPTIONS", headers=(("origin", PAGE), *PREFLIGHT))
    assert reply.status == 204 and reply.body == b""
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert "x-stainless-os" in reply.headers["access-control-allow-headers"]
    assert reply.headers["vary"] == "origin"
    for headers in ((AUTH, ("origin", PAGE)), (("origin", PAGE),)):
        reply = ask(guard, headers=headers)  # errors, too, or the page could not read them
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize(
    "origin",
    [
        "http://chat.example.org",
        "https://chat.example.org.evil.example",
        "https://chat.example.org:8443",
        "https://CHAT.example.org",
        "null",
        "*",
        "",
    ],
)
def test_origins_are_compared_exactly(origin: str) -> None:
    guard = guarded(cors=(PAGE,))
    assert ask(guard, "OPTIONS", headers=(("origin", origin), *PREFLIGHT)).status == 403
    reply = ask(guard, headers=(AUTH, ("origin", origin)))
    assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("origin", ["*", "chat.example.org", PAGE + "/", "file:///x", "https://"])
def test_a_config_lists_origins_as_browsers_write_them(origin: str) -> None:
    with pytest.raises(SpecError, match="cors"):
        guarded(cors=(origin,))
