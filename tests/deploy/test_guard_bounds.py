"""Bounds of headers, bodies and places, also over a real connection."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from deploy import access_log, intake
from deploy.asgi import Message, Receive, Scope, Send
from deploy.config import LimitsConfig, ServeConfig
from deploy.guard import Guard
from deploy.keys import KeyRing
from deploy.limits import Limiter
from tests.deploy.guarding import (
    AUTH,
    JSON,
    KEY,
    Echo,
    Reply,
    ask,
    guarded,
    limited,
    say,
    scope_of,
)


def test_headers_and_request_lines_that_are_too_long_are_431() -> None:
    guard = guarded(limits=LimitsConfig(header_bytes=1000))
    assert ask(guard, headers=(AUTH, ("x", "y" * 800))).status == 200
    for request in (
        {"headers": (AUTH, ("x", "y" * 1000))},
        {"headers": (AUTH,), "path": "/" + "p" * 1000},
        {"headers": (AUTH,), "query": "q" * 1000},
    ):
        reply = ask(guard, **request)  # type: ignore[arg-type]
        assert reply.status == 431 and reply.error["code"] == "headers_too_large"
    many = tuple((f"x{i}", "") for i in range(101))
    assert ask(guarded(), headers=(AUTH, *many)).status == 431


def test_a_body_reaches_the_app_whole() -> None:
    for body in (b"x" * 100, [b"x" * 50, b"", b"x" * 50], b""):
        guard, app = limited()
        assert ask(guard, "POST", headers=(AUTH, JSON), body=body).status == 200
        assert app.seen[0][1] == (b"".join(body) if isinstance(body, list) else body)


@pytest.mark.parametrize(
    ("body", "length"),
    [
        ([b"x" * 101], None),
        ([b"x" * 50, b"x" * 51, b"x" * 10**6], None),
        ([b"{}"], "101"),
        ([b"{}"], "9" * 30),
        ([b"{}"], "-1"),
        ([b"{}"], "1_0"),
        ([b"x" * 101], "5"),
    ],
)
def test_a_body_over_the_limit_is_413_and_not_read_further(
    body: list[bytes], length: str | None
) -> None:
    guard, app = limited()
    headers = (AUTH, JSON) if length is None else (AUTH, JSON, ("content-length", length))
    reply = ask(guard, "POST", "/v1/completions", headers, body)
    assert reply.status == 413 and reply.error["code"] == "request_too_large"
    assert not app.seen and guard.limiter.queued == 0


def test_an_endless_body_is_dropped_at_the_limit() -> None:
    guard, _ = limited(10_000)
    parts = 0

    async def receive() -> Message:
        nonlocal parts
        parts += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(guard(scope_of("POST", "/v1/completions", (AUTH, JSON)), receive, send))
    assert Reply(sent).status == 413 and parts == 11


def test_a_body_that_does_not_come_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "BODY_SECONDS", 0.01)
    guard, _ = limited()
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(guard(scope_of("POST", "/v1/completions", (AUTH, JSON)), receive, send))
    assert Reply(sent).status == 408 and guard.limiter.queued == 0


def test_a_client_that_leaves_before_its_body_has_come_is_not_answered() -> None:
    guard, app = limited()
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(guard(scope_of("POST", "/v1/completions", (AUTH, JSON)), receive, send))
    assert not sent and not app.seen and guard.limiter.queued == 0


@pytest.mark.parametrize(
    ("type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonx", 415),
        ("", 415),
        (None, 415),
    ],
)
def test_only_json_is_taken(type: str | None, status: int) -> None:
    headers = (AUTH,) if type is None else (AUTH, ("content-type", type))
    assert ask(guarded(), "POST", headers=headers, body=b"{}").status == status


def test_refusals_say_when_to_come_again() -> None:
    app = Echo()
    limiter = Limiter(1, 1, 60, clock=lambda: 0.0)
    guard = Guard(app, ServeConfig(), keys=KeyRing.of_plain(KEY), limiter=limiter)
    with limiter.enter("another"):  # type: ignore[union-attr]
        reply = ask(guard, "POST", "/v1/completions", (AUTH, JSON), b"{}")
        assert reply.status == 429 and reply.error["code"] == "queue_full"
        assert reply.headers["retry-after"] == "1"
        assert ask(guard, "POST", "/feedback", (AUTH, JSON), b"{}").status == 200
        assert ask(guard, headers=(AUTH,)).status == 200
    assert ask(guard, "POST", "/v1/completions", (AUTH, JSON), b"{}").status == 200
    for _ in range(58):
        ask(guard, "POST", "/v1/completions", (AUTH, JSON), b"{}")
    reply = ask(guard, "POST", "/v1/completions", (AUTH, JSON), b"{}")
    assert reply.status == 429 and reply.error["code"] == "rate_limit_exceeded"
    assert reply.error["type"] == "rate_limit_error"


@pytest.mark.parametrize("how", ["answer", "raise", "cancel", "return"])
def test_the_place_comes_back_however_an_answer_ends(how: str) -> None:
    inside = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        inside.append(guard.limiter.queued)
        if how == "answer":
            await say(send, 200, b"")
        elif how == "raise":
            raise RuntimeError
        elif how == "cancel":
            raise asyncio.CancelledError

    guard = guarded(app)
    try:
        ask(guard, "POST", "/v1/completions", (AUTH, JSON), b"{}")
    except asyncio.CancelledError:
        assert how == "cancel"
    assert inside == [1] and guard.limiter.queued == 0


@contextmanager
def served(app: Callable[..., Awaitable[None]]) -> Iterator[int]:
    """A real server; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive()


def exchange(port: int, request: bytes, *more: bytes) -> bytes:
    """Send bytes, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        for part in more:
            try:
                client.sendall(part)
            except OSError:
                break
        answer = b""
        try:
            while part := client.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


HEAD = (
    "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    f"authorization: Bearer {KEY}\r\n"
).encode()


def test_too_large_bodies_are_413_over_the_network() -> None:
    guard, app = limited(1000)
    with served(guard) as port:
        told = exchange(port, HEAD + b"content-length: 5000\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 413 ") and b"request_too_large" in told
        chunk = b"200\r\n" + b"x" * 512 + b"\r\n"
        chunked = exchange(port, HEAD + b"transfer-encoding: chunked\r\n\r\n", chunk, chunk)
        assert chunked.startswith(b"HTTP/1.1 413 ") and b"request_too_large" in chunked
        fine = HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\n{}"
        assert exchange(port, fine).startswith(b"HTTP/1.1 200 ")
    assert len(app.seen) == 1 and guard.limiter.queued == 0


def test_a_client_that_leaves_in_mid_answer_frees_its_place() -> None:
    ended = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        assert guard.limiter.queued == 1
        assert (await receive())["type"] == "http.disconnect"

    guard = guarded(app)
    record = guard.record

    def recorded(access: access_log.Access) -> None:
        record(access)
        assert access.status == 499
        ended.set()

    guard.record = recorded  # type: ignore[method-assign]
    with served(guard) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(HEAD + b"content-length: 2\r\n\r\n{}")
            assert b"200 OK" in client.recv(65536)
        assert ended.wait(10)
        assert guard.limiter.queued == 0


def test_a_client_that_has_its_whole_answer_finds_its_place_free() -> None:
    guard = guarded()
    taken: list[tuple[str, int]] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        taken.append((message["type"], guard.limiter.queued))

    asyncio.run(guard(scope_of("POST", "/v1/completions", (AUTH, JSON)), receive, send))
    assert taken == [("http.response.start", 1), ("http.response.body", 0)]
