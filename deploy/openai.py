"""The routes of OpenAI's API: models, chat completions, completions.

    bytes -> parse -> ChatRequest | CompletionRequest -> Job -> Delivery

Checks come in the order of their cost: JSON, names, values, model, filter; only then an engine.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from deploy.body import parse
from deploy.chat_request import ChatRequest
from deploy.completion_reply import CompletionReply
from deploy.completion_request import CompletionRequest
from deploy.config import ServeConfig
from deploy.delivery import Delivery
from deploy.errors import ApiError, json_response
from deploy.fields import like
from deploy.filters import Filters
from deploy.metrics import Metrics
from deploy.openapi import CHAT, COMPLETION, MODEL, MODELS
from deploy.protocol import Backend, Job, ModelCard
from deploy.reply import ChatReply, Reply
from deploy.requests import Request, read
from deploy.screen import Screen

R = TypeVar("R", bound=Request)


@dataclass(frozen=True, kw_only=True)
class Api:
    """What all routes need."""

    backend: Backend
    config: ServeConfig
    filters: Filters | None
    metrics: Metrics | None

    async def chat(self, http: HttpRequest) -> Response:
        request, card = await self.asked(http, ChatRequest)
        job = request.job(
            new_id("chatcmpl"), system=self.config.system, truncation=self.config.truncation
        )
        await self.screen_question("messages", [message.content for message in request.messages])
        reply = ChatReply(job, card, include_usage=request.include_usage)
        return self.deliver(http, request, job, reply)

    async def complete(self, http: HttpRequest) -> Response:
        request, card = await self.asked(http, CompletionRequest)
        job = request.job(new_id("cmpl"), card)
        await self.screen_question("prompt", request.prompt)
        reply = CompletionReply(job, card, include_usage=request.include_usage)
        return self.deliver(http, request, job, reply)

    async def models(self) -> Response:
        cards = self.backend.models().values()
        return json_response({"object": "list", "data": [described(card) for card in cards]})

    async def model(self, id: str) -> Response:
        return json_response(described(self.card(id)))

    async def asked(self, http: HttpRequest, kind: type[R]) -> tuple[R, ModelCard]:
        """The request that a body makes, and the model that it is for."""
        request = read(parse(await http.body()), kind)
        card = self.card(request.model)
        request.check_against(card)
        http.state.access.model = card.id
        return request, card

    def card(self, id: str | None) -> ModelCard:
        """A model by its id; the first one if none is named."""
        cards = self.backend.models()
        if not cards:
            raise ApiError(503, "no_model", "no model is served now; ask again soon", retry_after=2)
        if id is None:
            return next(iter(cards.values()))
        if id in cards:
            return cards[id]
        names = list(cards)
        raise ApiError(
            404,
            "model_not_found",
            f"there is no model {id!r:.100}{like(id, names)}; there are {', '.join(names)}",
            "model",
        )

    async def screen_question(self, param: str, texts: Sequence[str | tuple[int, ...]]) -> None:
        """Refuse what the filters keep out. Tokens cannot be looked at, so they are refused."""
        if self.filters is None or not self.filters.input:
            return
        spelled = [text for text in texts if isinstance(text, str)]
        if len(spelled) < len(texts):
            raise ApiError(
                400,
                "unsupported_value",
                f"{param}: questions are looked at here, so send texts instead of tokens",
                param,
            )
        if await self.filters.aside(lambda filters: any(map(filters.refuses, spelled))):
            raise ApiError(
                400, "content_filter", f"{param}: the text holds what is kept out here", param
            )

    def deliver(self, http: HttpRequest, request: Request, job: Job, reply: Reply) -> Response:
        """Hand the job to an engine."""
        screen = None
        if self.filters is not None and self.filters.output:
            if job.logprobs is not None:
                raise ApiError(
                    400,
                    "unsupported_value",
                    "logprobs: answers are looked at here before they are shown, and "
                    "log-probabilities would show them; leave logprobs out",
                    "logprobs",
                )
            screen = Screen(self.filters, job.n * len(job.prompts))
        return Delivery(
            backend=self.backend,
            job=job,
            reply=reply,
            streams=bool(request.stream),
            timeout=self.config.limits.timeout,
            screen=screen,
            metrics=self.metrics,
            access=http.state.access,
        )


def openai_router(
    backend: Backend, config: ServeConfig, filters: Filters | None, metrics: Metrics | None
) -> APIRouter:
    """The routes below /v1."""
    api = Api(backend=backend, config=config, filters=filters, metrics=metrics)
    router = APIRouter(prefix="/v1")
    router.add_api_route("/models", api.models, **MODELS)
    router.add_api_route("/models/{id:path}", api.model, **MODEL)
    router.add_api_route("/chat/completions", api.chat, methods=["POST"], **CHAT)
    router.add_api_route("/completions", api.complete, methods=["POST"], **COMPLETION)
    return router


def described(card: ModelCard) -> dict[str, Any]:
    """A model as OpenAI tells of it, and what else one needs to know before asking it."""
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": card.owner,
        "max_model_len": card.context,
        "chat": card.chat,
        "artifact": card.artifact,
    }


def new_id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"
