"""What every request passes before anything looks at it: an ASGI application around the real one.

    request id -> headers -> host -> CORS -> key -> content type -> place -> body -> app -> log

Cheap checks first; a body is read only for somebody who may ask and has a place, and never further
than the limit. Every route is closed but a few that are named, as they stand in the path after it
was decoded once by the server: no pattern, no prefix, nothing to get around. Errors have OpenAI's
shape. Whatever the app does wrong ends here: the client gets a request id, the log the place of the
fault, and neither gets any text of a request.
"""

import math
import re
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

from deploy import access_log
from deploy.access_log import Access
from deploy.answer import HARDENING, Answer, explain
from deploy.asgi import App, Headers, Receive, Scope, Send
from deploy.config import ServeConfig
from deploy.errors import ApiError
from deploy.headers import (
    check_size,
    check_type,
    checked_origin,
    host_of,
    is_preflight,
    one,
    request_id,
)
from deploy.intake import read_body
from deploy.keys import KeyRing
from deploy.limits import Limiter, Refusal, Ticket
from deploy.metrics import Metrics
from llm.errors import SpecError

OPEN = frozenset({"/", "/health", "/ready"})
"""Paths that need no key; the files of the chat page are added to them."""

ROUTES = frozenset(
    {
        *("/v1/models", "/v1/chat/completions", "/v1/completions"),
        *("/metrics", "/openapi.json", "/feedback", "/feedback/summary", "/chat/settings"),
    }
)
"""Further paths that are told apart in the numbers; the rest is `other`."""

METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})

WITH_BODY = METHODS - {"GET", "HEAD", "OPTIONS"}

SAME_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})

HEADER_NAMES = re.compile(rb"[A-Za-z0-9_, -]{1,1024}")


class Guard:
    """The outermost application. `keys` None: nobody is asked for one."""

    def __init__(
        self,
        app: App,
        config: ServeConfig,
        *,
        keys: KeyRing | None,
        metrics: Metrics | None = None,
        limiter: Limiter | None = None,
        open_paths: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert keys is not None or not config.auth, "a server with `auth` is given its keys"
        if keys is None and config.host not in SAME_MACHINE:
            raise SpecError(
                f"serve: without API keys a server listens on 127.0.0.1 only, and host is "
                f"{config.host}; leave `auth` on, or `host` as it is"
            )
        self.app = app
        self.config = config
        self.keys = keys
        self.metrics = metrics
        self.limiter = limiter or Limiter.of(config)
        self.open_paths = OPEN | frozenset(open_paths)
        self.origins = frozenset(map(checked_origin, config.cors))
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever happens."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        started = self.clock()
        headers: Headers = scope["headers"]
        access = Access(request_id(headers), scope["method"][:16], scope["path"], datetime.now(UTC))
        answer = Answer(send, self.added(access.id, one(headers, b"origin")))
        try:
            await self.admit(scope, headers, receive, answer, access)
        except Exception as error:
            if isinstance(error, ApiError) and not answer.status:
                self.count_refusal(error)
                await answer.error(error)
            else:
                await explain(error, answer, access.id)
        finally:
            access.status = answer.status if answer.complete else 499
            access.milliseconds = 1000 * (self.clock() - started)
            self.record(access)

    async def admit(
        self, scope: Scope, headers: Headers, receive: Receive, answer: Answer, access: Access
    ) -> None:
        """Check after check, and then the app."""
        check_size(scope, headers, self.config.limits.header_bytes)
        self.check_host(headers)
        if is_preflight(scope, headers):
            return await self.preflight(headers, answer)
        access.key = self.check_key(scope, headers)
        if scope["method"] in WITH_BODY:
            check_type(headers)
        with self.place(scope, access.key) as ticket:
            # Before the client can know that its answer is complete, and ask again.
            answer.before_last = ticket.release if ticket else None
            if scope["method"] in WITH_BODY:
                receive = await read_body(headers, receive, self.config.limits.body_bytes)
            await self.app({**scope, "state": {"access": access}}, receive, answer.send)

    def check_host(self, headers: Headers) -> None:
        """Without keys, pages elsewhere must not get here by a name of theirs that leads here.

        A browser lets a page at http://evil.example read what http://evil.example answers, even if
        that name was meanwhile pointed at 127.0.0.1 (DNS rebinding). The name stays in `Host`.
        """
        if self.keys is None and host_of(one(headers, b"host")) not in SAME_MACHINE:
            raise ApiError(
                403,
                "host_not_allowed",
                "this server has no API keys, so it answers only to http://127.0.0.1 and "
                "http://localhost; use one of them, or start it with keys",
            )

    def check_key(self, scope: Scope, headers: Headers) -> str | None:
        """Who asks; None where nobody needs to say."""
        if self.keys is None:
            return None
        authorization = one(headers, b"authorization")
        name = self.keys.name_of(authorization.decode("latin-1") if authorization else None)
        if name is None and not self.is_open(scope):
            raise ApiError(
                401,
                "invalid_api_key",
                "this API key is not known here, or was revoked"
                if authorization
                else "an API key is needed; send it as `Authorization: Bearer hk-...`",
                headers={"www-authenticate": "Bearer"},
            )
        return name

    def is_open(self, scope: Scope) -> bool:
        """Whether a path may be read by anybody."""
        return scope["method"] in ("GET", "HEAD") and scope["path"] in self.open_paths

    def place(self, scope: Scope, key: str | None) -> AbstractContextManager[Ticket | None]:
        """A place for what costs something."""
        if scope["method"] not in WITH_BODY:
            return nullcontext()
        entered = self.limiter.enter(key, queued=scope["path"].startswith("/v1/"))
        if isinstance(entered, Refusal):
            raise ApiError(
                429,
                entered.code,
                entered.message,
                retry_after=max(1, math.ceil(entered.retry_after)),
            )
        return entered

    async def preflight(self, headers: Headers, answer: Answer) -> None:
        """A browser asks whether a page elsewhere may ask."""
        if one(headers, b"origin") not in self.origins:
            raise ApiError(
                403,
                "origin_not_allowed",
                "pages of this origin may not ask here; list it in `cors` of the serve stage",
            )
        wanted = one(headers, b"access-control-request-headers") or b""
        allowed = [
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-max-age", b"600"),
        ]
        if HEADER_NAMES.fullmatch(wanted):
            allowed.append((b"access-control-allow-headers", wanted))
        await answer.send({"type": "http.response.start", "status": 204, "headers": allowed})
        await answer.send({"type": "http.response.body", "body": b""})

    def added(self, id: str, origin: bytes | None) -> Headers:
        """Headers of every answer to a request."""
        headers = [*HARDENING, (b"x-request-id", id.encode())]
        if self.origins:
            headers.append((b"vary", b"origin"))
        if origin in self.origins and origin is not None:
            headers.append((b"access-control-allow-origin", origin))
            headers.append((b"access-control-expose-headers", b"*"))
        return headers

    def count_refusal(self, error: ApiError) -> None:
        """Tell the numbers what was refused here."""
        if self.metrics:
            self.metrics.refused(error.code or str(error.status))

    def record(self, access: Access) -> None:
        """Tell the log and the numbers how a request ended."""
        access_log.write(access)
        if self.metrics:
            method = access.method if access.method in METHODS else "OTHER"
            self.metrics.answered(method, self.route(access.path), access.status)

    def route(self, path: str) -> str:
        """A path in the numbers, of which there must be few."""
        if path in ROUTES or path in self.open_paths:
            return path
        return "/v1/models/{id}" if path.startswith("/v1/models/") else "other"
