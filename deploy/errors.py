"""What the HTTP side answers when it cannot do what is asked: one body for every error.

    {"error": {"message": ..., "type": ..., "param": ..., "code": ...}}

`type` follows from the status, as clients of this API expect: 4xx is the caller's, 5xx is ours.
"""

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from deploy.protocol import Refused

TYPES = {429: "rate_limit_error"}


class ApiError(Exception):
    """Ends a request with an error body; `retry_after` is in seconds."""

    def __init__(
        self,
        status: int,
        code: str | None,
        message: str,
        param: str | None = None,
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)

    @property
    def body(self) -> dict[str, Any]:
        return error_body(self.status, self.code, self.message, self.param)

    def response(self) -> Response:
        return json_response(self.body, self.status, self.headers)


def error_body(
    status: int, code: str | None, message: str, param: str | None = None
) -> dict[str, Any]:
    """The only shape in which errors leave the server."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON as UTF-8; several times as fast as the standard library for big answers."""
    return Response(to_json(content), status, headers, media_type="application/json")


def refused(event: Refused) -> ApiError:
    """What an engine says when it does not take a job; a full one has room again soon."""
    wait = 1 if event.status in (429, 503) else None
    return ApiError(event.status, event.code, event.message, event.param, retry_after=wait)
