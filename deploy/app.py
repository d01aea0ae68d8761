"""The HTTP application: OpenAI's routes, health, numbers and the chat page behind the guard.

    Guard -> FastAPI -> /v1 (deploy/openai.py), / (deploy/page.py), /health, /ready, /metrics

Needs neither torch nor ray: what answers is behind `Backend`.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from deploy.config import ServeConfig
from deploy.errors import ApiError, json_response
from deploy.feedback import FeedbackStore
from deploy.filters import Filters
from deploy.guard import Guard
from deploy.keys import KeyRing
from deploy.metrics import Metrics
from deploy.openai import openai_router
from deploy.openapi import HEALTH, READY, description
from deploy.page import PATHS, page_router
from deploy.protocol import Backend


def make_app(
    backend: Backend,
    config: ServeConfig,
    *,
    keys: KeyRing | None = None,
    metrics: Metrics | None = None,
    filters: Filters | None = None,
    feedback: FeedbackStore | None = None,
) -> Guard:
    """An ASGI application. `keys` None: nobody is asked for one, which the guard allows on loopback
    only; `feedback` None: none is asked for."""
    app = FastAPI(
        title="Humpty", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    app.include_router(openai_router(backend, config, filters, metrics))
    app.include_router(page_router(config, backend.models, feedback))
    add_watching(app, backend, metrics)
    add_description(app, auth=keys is not None)
    add_errors(app, metrics)
    return Guard(app, config, keys=keys, metrics=metrics, open_paths=PATHS)


def add_watching(app: FastAPI, backend: Backend, metrics: Metrics | None) -> None:
    """Routes for those who keep the server running."""

    @app.get("/health", **HEALTH)
    async def health() -> Response:
        return json_response({"status": "ok"})

    @app.get("/ready", **READY)
    async def ready() -> Response:
        models = list(backend.models())
        if not models:
            raise ApiError(
                503, "not_ready", "no model is served now; ask again soon", retry_after=2
            )
        return json_response({"status": "ready", "models": models})

    if metrics:

        @app.get("/metrics", include_in_schema=False)
        async def numbers() -> Response:
            content, kind = metrics.text()
            return Response(content, headers={"content-type": kind})


def add_description(app: FastAPI, *, auth: bool) -> None:
    """/openapi.json, worked out when somebody asks for the first time."""

    @app.get("/openapi.json", include_in_schema=False)
    async def described() -> Response:
        if app.openapi_schema is None:
            app.openapi_schema = description(app, auth=auth)
        return json_response(app.openapi_schema)


def add_errors(app: FastAPI, metrics: Metrics | None) -> None:
    """One body for all errors, whoever finds them."""

    async def ours(request: Request, error: Any) -> Response:
        if metrics:
            metrics.refused(error.code)
        return error.response()

    async def http(request: Request, error: Any) -> Response:
        return of_status(request, error).response()

    async def fault(request: Request, error: Any) -> Response:
        id = request.state.access.id
        message = f"something went wrong here; whoever runs the server finds it in the log as {id}"
        return ApiError(500, "internal_error", message).response()

    app.add_exception_handler(ApiError, ours)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, fault)


def of_status(request: Request, error: HTTPException) -> ApiError:
    """What the router says, in our words."""
    if error.status_code == 404:
        message = f"there is no {request.method} {request.url.path[:100]}; see /openapi.json"
        return ApiError(404, "not_found", message)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{request.url.path[:100]} does not take {request.method}; it takes {allowed}"
        return ApiError(405, "method_not_allowed", message, headers=error.headers)
    return ApiError(error.status_code, None, str(error.detail), headers=error.headers)


async def invalid(request: Request, error: Any) -> Response:
    """A path or query that a route cannot read."""
    return ApiError(400, "invalid_value", "the path or query cannot be read").response()
