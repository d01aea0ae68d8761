"""The description of the routes at /openapi.json: what is taken, what comes back, all errors.

Bodies are read by hand (deploy/body.py), so FastAPI cannot see them; their schemas are put in here,
from the same classes that check them, with the foreign fields that are let through.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from deploy.chat_request import ChatRequest
from deploy.completion_request import CompletionRequest
from deploy.requests import UNSUPPORTED, Request
from deploy.shapes import (
    ChatChunk,
    ChatCompletion,
    Completion,
    ErrorBody,
    Health,
    Model,
    ModelList,
    Ready,
)

REF = "#/components/schemas/{model}"

REQUESTS: tuple[type[Request], ...] = (ChatRequest, CompletionRequest)

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "What is wrong with the request"},
    "5XX": {"model": ErrorBody, "description": "What went wrong here"},
}


def route(summary: str, answer: type[BaseModel], **more: Any) -> dict[str, Any]:
    """Arguments of a route: what it is for, what it answers, how it fails."""
    ok = {"model": answer, "description": (answer.__doc__ or "").strip()}
    return {"summary": summary, "responses": {200: ok, **ERRORS}, **more}


def writing(
    summary: str, request: type[Request], answer: type[BaseModel], chunk: type[BaseModel]
) -> dict[str, Any]:
    """Arguments of a route that takes a body, and streams if asked to."""
    more = route(summary, answer)
    event = {
        "type": "object",
        "description": f"`data`: a {chunk.__name__}, at last [DONE]; an error if it broke off",
        "properties": {"data": {"type": "string"}},
        "required": ["data"],
    }
    more["responses"][200]["content"] = {"text/event-stream": {"schema": event}}
    schema = {"$ref": REF.format(model=request.__name__)}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return more | {"openapi_extra": {"requestBody": body}}


MODELS = route("What is served", ModelList, operation_id="list_models")
MODEL = route("One of them", Model, operation_id="get_model")
CHAT = writing("Answer a conversation", ChatRequest, ChatCompletion, ChatChunk)
COMPLETION = writing("Continue texts", CompletionRequest, Completion, Completion)
HEALTH = route("Whether the server is alive", Health)
READY = route("Whether a model can answer", Ready)


def description(app: FastAPI, *, auth: bool) -> dict[str, Any]:
    """The whole document."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    kinds: tuple[type[BaseModel], ...] = (*REQUESTS, ChatChunk)
    _, schemas = models_json_schema([(kind, "validation") for kind in kinds], ref_template=REF)
    document["components"]["schemas"] |= schemas["$defs"]
    for kind in REQUESTS:
        properties = document["components"]["schemas"][kind.__name__]["properties"]
        for name, values in UNSUPPORTED.items():
            properties[name] = {
                "enum": list(values),
                "description": "Not supported: only values that ask for nothing.",
            }
    if auth:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document
