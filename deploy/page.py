"""The chat page and the road back from it: its files, its settings, and what people say.

    GET  /                  the page; GET /chat/NAME its style and scripts  (open to all: PATHS)
    GET  /chat/settings     models and defaults, for the page               (needs a key)
    POST /feedback          one judgement (deploy/judgements.py), on disk before 200
    GET  /feedback/summary  how many there are

The page has no build step, loads nothing from elsewhere and has no script or style inside, so its
policy forbids all of that. Its addresses are relative: a proxy may put it below any prefix.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from deploy.config import ServeConfig
from deploy.errors import ApiError, json_response
from deploy.feedback import FeedbackConflict, FeedbackFull, FeedbackStore
from deploy.judgements import JUDGEMENT, Message, Opinion, Withdrawal, objection
from deploy.protocol import ModelCard

FOLDER = Path(__file__).parent / "chat"

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

FILES = {
    "/" if path.name == "chat.html" else f"/chat/{path.name}": path
    for path in sorted(FOLDER.iterdir())
    if path.suffix in TYPES
}

PATHS = frozenset(FILES)
"""What may be seen without a key: the page, which holds nothing secret and asks for the key."""


def page_router(
    config: ServeConfig,
    models: Callable[[], Mapping[str, ModelCard]],
    feedback: FeedbackStore | None,
) -> APIRouter:
    """The routes; `feedback` None: nothing is asked for or kept."""
    router = APIRouter(include_in_schema=False)
    for path, file in FILES.items():
        router.add_api_route(path, static(file), methods=["GET", "HEAD"])

    @router.get("/chat/settings")
    async def settings() -> dict[str, Any]:
        return page_settings(config, models(), feedback is not None)

    @router.post("/feedback")
    async def put(request: Request) -> Response:
        if feedback is None:
            return no_feedback()
        body = await request.body()
        return await run_in_threadpool(keep, feedback, body, config.system)

    @router.get("/feedback/summary")
    async def summary() -> Response:
        return no_feedback() if feedback is None else json_response(feedback.summary())

    return router


def static(file: Path) -> Callable[[Request], Any]:
    """Answers with a file, which is read once; or that it is still the same."""
    content = file.read_bytes()
    headers = {
        "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        "cache-control": "no-cache",
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }

    async def get(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if headers["etag"] in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=TYPES[file.suffix])

    return get


def page_settings(
    config: ServeConfig, cards: Mapping[str, ModelCard], feedback: bool
) -> dict[str, Any]:
    """What the page has to know; the first model is the default."""
    return {
        "models": [
            {
                "id": card.id,
                "artifact": card.artifact,
                "context": card.context,
                "chat": card.chat,
            }
            for card in cards.values()
        ],
        "feedback": feedback,
        "truncation": config.truncation,
        "system": bool(config.system),
    }


# -- feedback --------------------------------------------------------------------------------------


def keep(feedback: FeedbackStore, body: bytes, system: str) -> Response:
    """Store one judgement, or say why not; `system` is what the server puts before a prompt."""
    try:
        said = with_system(judgement_in(body), system)
        return json_response({"id": said.id, "new": feedback.put(said)})
    except ApiError as error:
        return error.response()
    except FeedbackConflict as error:
        message = f"id {error} is that of another judgement; draw a new one"
        return ApiError(409, "feedback_conflict", message, "id").response()
    except FeedbackFull as error:
        message = f"{error}, which is all that is allowed; move the folder away"
        return ApiError(507, "feedback_full", message).response()
    except OSError as error:
        message = f"it could not be written to disk: {error.strerror}; send it again"
        return ApiError(503, "feedback_not_stored", message, retry_after=5).response()


def judgement_in(body: bytes) -> Opinion | Withdrawal:
    """What a body says."""
    try:
        said = JUDGEMENT.validate_json(body)
    except ValidationError as error:
        raise ApiError(400, "invalid_feedback", *complaint(error)) from None
    if wrong := objection(said):
        param, message = wrong
        raise ApiError(400, "invalid_feedback", message, param)
    return said


def with_system(said: Opinion | Withdrawal, system: str) -> Opinion | Withdrawal:
    """With the system prompt that the model saw, where the conversation brought none."""
    if not system or isinstance(said, Withdrawal) or said.prompt[0].role == "system":
        return said
    return replace(said, prompt=(Message(role="system", content=system), *said.prompt))


def complaint(error: ValidationError) -> tuple[str, str | None]:
    """The first thing that is wrong, and where; never the text itself."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or None
    return f"{where or 'body'}: {first['msg']}", where


def no_feedback() -> Response:
    """The answer where nothing is kept."""
    message = "this server keeps no feedback; the serve stage can: feedback: {enabled: true}"
    return ApiError(404, "feedback_disabled", message).response()
