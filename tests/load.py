"""A crowd of clients: asks a server over HTTP and counts what came of it.

    tally = await crowd(url, clients=64, requests=1000, body=chat("humpty"), stream=True)
    assert tally.statuses == {200: 1000} and not tally.broken

A stream is broken unless it ends with `data: [DONE]` and held no error.
"""

import asyncio
import json
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import aiohttp

Body = Callable[[int], dict[str, Any]]
"""What request number so-and-so asks."""


@dataclass
class Tally:
    """What came of it."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    """Seconds to the first text, streams only."""
    texts: list[str] = field(default_factory=list)
    tokens: int = 0
    """As `usage` tells, or the number of chunks with text."""
    seconds: float = 0.0

    def line(self) -> str:
        """A line for people."""
        first = f", first text {1000 * statistics.median(self.first):.0f} ms" if self.first else ""
        rate = f"{sum(self.statuses.values()) / self.seconds:.0f} requests/s"
        return (
            f"{dict(self.statuses)}, {len(self.broken)} broken, {rate}, "
            f"{self.tokens / self.seconds:,.0f} tokens/s{first}"
        )


def completion(model: str, tokens: int, **more: Any) -> Body:
    """The same completion every time, each with its own prompt."""
    return lambda n: {
        "model": model,
        "prompt": f"all the king's horses {n}",
        "max_tokens": tokens,
        **more,
    }


def chat(model: str, tokens: int, **more: Any) -> Body:
    """A question with a common beginning."""
    return lambda n: {
        "model": model,
        "messages": [{"role": "user", "content": f"Who sat on the wall {n}?"}],
        "max_tokens": tokens,
        **more,
    }


async def crowd(
    url: str,
    *,
    clients: int,
    requests: int,
    body: Body,
    stream: bool = True,
    key: str | None = None,
    stop: asyncio.Event | None = None,
) -> Tally:
    """`clients` at once ask until `requests` were made, or until `stop`."""
    tally, numbers = Tally(), iter(range(requests))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(
        headers=headers, connector=connector, timeout=timeout
    ) as session:

        async def client() -> None:
            for number in numbers:
                if stop and stop.is_set():
                    return
                await ask(session, url, {**body(number), "stream": stream}, tally)

        start = perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        tally.seconds = perf_counter() - start
    return tally


async def ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any], to: Tally) -> None:
    """One request, entered in the tally; a connection that breaks off is a broken answer."""
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    try:
        start = perf_counter()
        async with session.post(url + path, json=body) as response:
            to.statuses[response.status] += 1
            if response.status != 200:
                to.texts.append(await response.text())
            elif body["stream"]:
                await read_stream(response, start, to)
            else:
                answer = await response.json()
                to.tokens += answer.get("usage", {}).get("completion_tokens", 0)
                to.texts.append(text_of(answer["choices"][0]))
    except aiohttp.ClientError as error:
        to.broken.append(f"{type(error).__name__}: {error}")


async def leave(url: str, count: int, body: Body) -> None:
    """As many ask for a stream at once, and each goes away after its first piece."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def go(number: int) -> None:
            asked = {**body(number), "stream": True}
            async with session.post(f"{url}/v1/completions", json=asked) as response:
                assert response.status == 200, await response.text()
                async for line in response.content:
                    if line.startswith(b"data: "):
                        response.close()
                        return

        await asyncio.gather(*(go(number) for number in range(count)))


async def read_stream(response: aiohttp.ClientResponse, start: float, to: Tally) -> None:
    """Server-sent events up to the end."""
    text, tokens, done, first = "", 0, False, True
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            done = True
            continue
        event = json.loads(line[6:])
        if "error" in event:
            to.broken.append(str(event["error"]))
            return
        for choice in event.get("choices", []):
            if piece := text_of(choice):
                if first:
                    to.first.append(perf_counter() - start)
                    first = False
                text += piece
                tokens += 1
        if usage := event.get("usage"):
            tokens = usage["completion_tokens"]
    to.texts.append(text)
    to.tokens += tokens
    if not done:
        to.broken.append("the stream ended without [DONE]")


def text_of(choice: dict[str, Any]) -> str:
    """The text of a choice, whole or a piece, chat or not."""
    said = choice.get("message") or choice.get("delta") or choice
    return str(said.get("text") or said.get("content") or "")
