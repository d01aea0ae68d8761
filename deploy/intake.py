"""Bodies of requests: read before the app sees them, within bounds of size and time."""

import asyncio

from starlette.requests import ClientDisconnect

from deploy.asgi import Headers, Message, Receive
from deploy.errors import ApiError
from deploy.headers import one

BODY_SECONDS = 30.0
"""How long a body may take to come; it holds a place meanwhile."""


async def read_body(headers: Headers, receive: Receive, most: int) -> Receive:
    """Read a body up to the limit; gives back where the app receives it from."""
    too_large = ApiError(
        413,
        "request_too_large",
        f"the body has more than {most} bytes; send less, or raise limits.body_bytes",
        headers={"connection": "close"},
    )
    told = one(headers, b"content-length") or b"0"
    if not told.isdigit() or len(told) > 18 or int(told) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise ApiError(
            408,
            "request_timeout",
            f"the body did not come within {BODY_SECONDS:.0f} s; send it again",
            headers={"connection": "close"},
        ) from None
    return replayed(bytes(body), receive)


def replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one message, and then whatever else comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message
