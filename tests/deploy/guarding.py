"""Requests to a guard, one ASGI message at a time."""

import asyncio
import json
from typing import Any

from deploy.asgi import App, Message, Receive, Scope, Send
from deploy.config import LimitsConfig, ServeConfig
from deploy.guard import Guard
from deploy.keys import KeyRing
from deploy.metrics import Metrics

KEY = "hk-a-key-that-is-long-enough"

JSON = ("content-type", "application/json")

AUTH = ("authorization", f"Bearer {KEY}")

LOCAL = ("host", "localhost:8000")


class Reply:
    """What a client got."""

    def __init__(self, sent: list[Message]) -> None:
        self.sent = sent
        self.status = sent[0]["status"] if sent else None
        self.raw = sent[0]["headers"] if sent else []
        self.headers = {name.decode(): value.decode() for name, value in self.raw}
        self.body = b"".join(message["body"] for message in sent[1:])

    @property
    def error(self) -> dict[str, Any]:
        found = json.loads(self.body)
        assert set(found) == {"error"} and set(found["error"]) == {
            "message",
            "type",
            "param",
            "code",
        }
        return found["error"]


def ask(
    app: App,
    method: str = "GET",
    path: str = "/v1/models",
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes | list[bytes] = b"",
    query: str = "",
) -> Reply:
    """One request; a list is a body that comes in parts."""
    parts = body if isinstance(body, list) else [body]
    waiting = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope_of(method, path, headers, query), receive, send))
    return Reply(sent)


def scope_of(
    method: str, path: str, headers: tuple[tuple[str, str], ...] = (), query: str = ""
) -> Scope:
    names = {name for name, _ in headers}
    if "host" not in names:
        headers = (*headers, LOCAL)
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query.encode(),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
    }


class Echo:
    """An app that answers 200 with the body, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[Scope, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        if scope["method"] == "POST":
            message = await receive()
            assert not message["more_body"]
            body = message["body"]
        self.seen.append((scope, body))
        await say(send, 200, body)


async def say(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


def guarded(app: App | None = None, **config: Any) -> Guard:
    """With the key KEY, called `first`."""
    keys = KeyRing.of_plain(KEY)
    return Guard(app or Echo(), ServeConfig(**config), keys=keys, metrics=Metrics())


def unguarded(app: App | None = None, **config: Any) -> Guard:
    """Without keys, on this machine only."""
    return Guard(app or Echo(), ServeConfig(auth=False, **config), keys=None, metrics=Metrics())


def limited(limit: int = 100) -> tuple[Guard, Echo]:
    """Takes bodies of so many bytes."""
    app = Echo()
    return guarded(app, limits=LimitsConfig(body_bytes=limit)), app
