"""A client of an OpenAI-compatible server, no more than a conversation needs."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from typing import Any

from llm.chat import Conversation
from llm.errors import UserError

KEY_VARIABLES = ("HUMPTY_API_KEY", "OPENAI_API_KEY")

CONNECT_SECONDS = 60.0
"""Longest silence; a server that had no replica loads a model first."""


class ServerError(UserError):
    """What a server answers in place of what was asked for, or that it does not answer."""

    exit_code = 1


class Server:
    """One model of a server."""

    def __init__(self, url: str, key: str | None, model: str | None) -> None:
        base = url.split("#")[0].rstrip("/")
        self.base = base if base.endswith("/v1") else f"{base}/v1"
        _, _, of_url = url.partition("#key=")
        kept = next(filter(None, map(os.environ.get, KEY_VARIABLES)), None)
        self.key = key or of_url or kept
        self.model = model or self.models()[0]

    def models(self) -> list[str]:
        """What is served."""
        with self._open("/models") as answer:
            return [one["id"] for one in json.load(answer)["data"]]

    def answer(self, conversation: Conversation, **sampling: Any) -> Iterator[str]:
        """Pieces of the answer, as they are written; the oldest turns fall out if it gets long."""
        body = {
            "model": self.model,
            "messages": [{"role": turn.role, "content": turn.text} for turn in conversation],
            "stream": True,
            "truncation": "auto",
            **sampling,
        }
        with self._open("/chat/completions", body) as stream:
            yield from pieces_of(stream)

    def _open(self, path: str, body: dict[str, Any] | None = None) -> HTTPResponse:
        """An answer to be read; ServerError if it is a refusal."""
        headers = {"content-type": "application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers)
        try:
            response: HTTPResponse = urllib.request.urlopen(request, timeout=CONNECT_SECONDS)
            return response
        except urllib.error.HTTPError as error:
            raise ServerError(f"{self.base}: {message_of(error)}") from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(
                f"{self.base}: no answer ({reason}); is a server running there? "
                "Start one: python -m jobs serve FILE"
            ) from error


def pieces_of(stream: HTTPResponse) -> Iterator[str]:
    """Texts of the events of a stream."""
    try:
        for line in stream:
            data = line.removeprefix(b"data: ").strip()
            if not data or data == line.strip():
                continue
            if data == b"[DONE]":
                return
            event = json.loads(data)
            if "error" in event:
                raise ServerError(event["error"]["message"])
            for choice in event["choices"]:
                yield choice["delta"].get("content") or ""
    except (OSError, HTTPException, ValueError, KeyError) as error:
        raise ServerError(f"the server broke off ({error}); ask again") from error
    raise ServerError("the server broke off; ask again")


def message_of(error: urllib.error.HTTPError) -> str:
    """What a refusal says, and the remedy for the commonest."""
    try:
        text = json.load(error)["error"]["message"]
    except (ValueError, KeyError, TypeError, OSError):
        text = error.reason
    where = f"; give it with --key, or in {KEY_VARIABLES[0]}" if error.code == 401 else ""
    return f"{text}{where}"
