"""Doors: what is open, what a key opens, and what every answer carries."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.asgi import Receive, Scope, Send
from deploy.config import ServeConfig
from deploy.guard import OPEN, Guard
from deploy.keys import KeyRing
from llm.errors import SpecError
from tests.deploy.guarding import AUTH, JSON, KEY, LOCAL, Echo, ask, guarded, say, unguarded


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/chat/chat.js"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_page_and_health_need_no_key(method: str, path: str) -> None:
    guard = Guard(Echo(), ServeConfig(), keys=KeyRing.of_plain(KEY), open_paths=["/chat/chat.js"])
    assert ask(guard, method, path).status == 200


CLOSED = [
    "/v1/models",
    "/v1/chat/completions",
    "/v1/completions",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/feedback",
    "/chat/other.js",
    "//",
    "/./",
    "/health/",
    "/health/../metrics",
    "/HEALTH",
    "/health;x",
    "/health%2f..%2fmetrics",
    "/health\x00",
    "/ready/../v1/models",
    "",
]


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_everything_else_is_closed_without_a_key(method: str, path: str) -> None:
    app = Echo()
    reply = ask(guarded(app), method, path, (JSON,), b"{}")
    assert reply.status == 401 and not app.seen
    assert reply.error["code"] == "invalid_api_key"
    assert reply.error["type"] == "invalid_request_error"
    assert reply.headers["www-authenticate"] == "Bearer"


def test_open_paths_are_open_for_reading_only() -> None:
    assert ask(guarded(), "POST", "/health", (JSON,), b"{}").status == 401


@pytest.mark.parametrize(
    "headers",
    [
        (("authorization", "Bearer wrong"),),
        (("authorization", f"Bearer {KEY}x"),),
        (("authorization", KEY),),
        (("authorization", "Bearer \xe9"),),
        (AUTH, AUTH),
        (AUTH, ("Authorization", "Bearer wrong")),
        (("x-api-key", KEY),),
    ],
)
def test_wrong_and_ambiguous_keys_are_refused(headers: tuple[tuple[str, str], ...]) -> None:
    assert ask(guarded(), headers=headers).status == 401


def test_a_key_opens_and_the_app_learns_its_name() -> None:
    app = Echo()
    assert ask(guarded(app), headers=(AUTH,)).status == 200
    access = app.seen[0][0]["state"]["access"]
    assert access.key == "first"


def test_a_query_does_not_change_what_is_open() -> None:
    assert ask(guarded(), path="/v1/models", query="path=/health").status == 401


def test_without_keys_a_server_stays_on_this_machine() -> None:
    with pytest.raises(SpecError, match=r"127\.0\.0\.1 only"):
        Guard(Echo(), ServeConfig(host="0.0.0.0", auth=False), keys=None)
    assert ask(unguarded()).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example:8000", 403),
        ("localhost@evil.example", 403),
        ("evil.example#localhost", 403),
        ("0.0.0.0:8000", 403),
        ("[::1", 403),
        ("", 403),
        ("\xe9", 403),
    ],
)
def test_without_keys_only_names_of_this_machine_lead_here(host: str, status: int) -> None:
    assert ask(unguarded(), headers=(("host", host),)).status == status


def test_two_host_headers_are_none() -> None:
    assert ask(unguarded(), headers=(LOCAL, ("host", "evil.example"))).status == 403


def test_with_keys_any_name_leads_here() -> None:
    assert ask(guarded(), headers=(AUTH, ("host", "llm.example.org"))).status == 200


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("host", "authorization", "Authorization", "content-type", "content-length"),
                *("origin", "x-request-id", "access-control-request-method", "x-forwarded-for"),
            ]
        ),
        st.sampled_from(
            [
                *("", "localhost", "evil.example", "Bearer", "Bearer x", "Basic eDp5", "POST"),
                *(
                    "application/json",
                    "9" * 20,
                    "-1",
                    "https://a.example",
                    "null",
                    "*",
                    "\x80",
                    "\x00",
                ),
            ]
        )
        | st.text(st.characters(max_codepoint=255), max_size=20),
    ),
    max_size=8,
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "BREW", ""]),
    st.sampled_from([*CLOSED, *OPEN]) | st.text(max_size=20).map("/".__add__),
    HEADERS,
    st.booleans(),
)
def test_whatever_comes_without_a_key_is_answered_once_and_stays_outside(
    method: str, path: str, headers: list[tuple[str, str]], cors: bool
) -> None:
    app = Echo()
    config = ServeConfig(cors=("https://a.example",) if cors else ())
    closed = Guard(app, config, keys=KeyRing.of_plain(KEY))
    reply = ask(closed, method, path, tuple(headers), [b"{", b"}"])
    assert [message["type"] for message in reply.sent] == [
        "http.response.start",
        "http.response.body",
    ]
    if app.seen:
        assert method in ("GET", "HEAD") and path in OPEN
    else:
        assert reply.status == 204 or reply.error["code"]
    assert "x-request-id" in reply.headers and closed.limiter.queued == 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1.2_3", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("a\nb", False)],
)
def test_a_request_id_is_taken_if_it_is_sane(given: str, kept: bool) -> None:
    for headers in ((AUTH, ("x-request-id", given)), (("x-request-id", given),)):
        id = ask(guarded(), headers=headers).headers["x-request-id"]
        assert (id == given) == kept
        assert kept or (id.startswith("req-") and len(id) == 36)


def test_answers_are_hardened_and_the_app_may_have_its_own_policy() -> None:
    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        policy = (b"Content-Security-Policy", b"script-src 'self'")
        await say(send, 200, b"", policy, (b"X-Content-Type-Options", b"sniff"))

    for reply in (ask(guarded(page), path="/"), ask(guarded(page))):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert len(reply.raw) == len({name.lower() for name, _ in reply.raw})
    assert ask(guarded(page), path="/").headers["Content-Security-Policy"] == "script-src 'self'"
    assert "default-src 'none'" in ask(guarded(page)).headers["content-security-policy"]
