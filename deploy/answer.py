"""What is sent back: an app's messages with headers of ours, and errors, whatever breaks."""

import logging
import traceback
from collections.abc import Callable

from pydantic_core import to_json
from starlette.requests import ClientDisconnect

from deploy.asgi import Headers, Message, Send
from deploy.errors import ApiError

logger = logging.getLogger("humpty.guard")

HARDENING: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

DEFAULTS: Headers = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]
"""Headers that the app may set otherwise."""


class Answer:
    """What is sent back: with our headers, and watched, so that it is known how it ended."""

    def __init__(self, send: Send, headers: Headers) -> None:
        self.to_client = send
        self.headers = headers
        self.status = 0
        self.complete = False
        self.before_last: Callable[[], None] | None = None
        """Called before the last message goes out."""

    async def send(self, message: Message) -> None:
        """Pass a message of the app on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = list(message.get("headers", ()))
            names = {name.lower() for name, _ in given}
            ours = {name for name, _ in self.headers} - {b"vary"}
            message = {
                **message,
                "headers": [
                    *((name, value) for name, value in given if name.lower() not in ours),
                    *self.headers,
                    *((name, value) for name, value in DEFAULTS if name not in names),
                ],
            }
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if last and self.before_last:
            self.before_last()
        await self.to_client(message)
        self.complete = self.complete or last

    async def error(self, error: ApiError) -> None:
        """Send an error as the only answer."""
        body = to_json(error.body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *((name.encode(), value.encode()) for name, value in error.headers.items()),
        ]
        status = error.status
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class Broken(RuntimeError):
    """Tells the server to cut a connection; says nothing, since servers log it."""


async def explain(error: Exception, answer: Answer, id: str) -> None:
    """An exception that the app let out: 500 if nothing was sent yet, else a cut connection."""
    if isinstance(error, ClientDisconnect | ConnectionError):
        return
    # The place and the kind of the fault; its message may hold a part of the prompt.
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("request %s failed with %s\n%s", id, type(error).__name__, where)
    if answer.complete:
        return
    if answer.status:
        raise Broken(f"request {id} broke off") from None
    message = f"something went wrong here; whoever runs the server finds it in the log as {id}"
    await answer.error(ApiError(500, "internal_error", message))
