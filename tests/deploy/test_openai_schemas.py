"""Answers against OpenAI's own schemas, and against those that we publish."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient

from deploy.protocol import Refused
from tests.deploy.serving import asking, chunks_of
from tests.deploy.stub import Stub

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"

USER = {"role": "user", "content": "Hello"}

LONG = [{"role": "user", "content": 60 * "word "} for _ in range(5)]

ASKED: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": [USER]}),
    (CHAT, {"messages": [USER], "n": 2, "logprobs": True, "top_logprobs": 3, "max_tokens": 2}),
    (CHAT, {"messages": [USER], "logprobs": True}),
    (CHAT, {"messages": LONG, "truncation": "auto"}),
    (TEXT, {"prompt": "Once"}),
    (TEXT, {"prompt": ["a", "b"], "n": 2, "logprobs": 2}),
    (TEXT, {"prompt": [1, 2], "echo": True}),
]

ECHOED: list[tuple[str, dict[str, Any]]] = [
    (TEXT, {"prompt": [1, 2], "echo": True, "logprobs": 0, "max_tokens": 0})
]
"""The first token has no log-probability: null, in OpenAI's answers too, but not in its schema."""


@pytest.fixture
def client() -> TestClient:
    return asking(Stub())


def validator(components: dict[str, Any], name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})


def nullable(schema: Any) -> Any:
    """The schema with `nullable` of OpenAPI 3.0, which JSON Schema does not know, spelled out."""
    if isinstance(schema, list):
        return [nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: nullable(value) for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain


@pytest.fixture(scope="module")
def openai(shared_data: Path) -> dict[str, Any]:
    document = json.loads((shared_data / "h_schemas/openai_openapi_subset.json").read_text())
    components: dict[str, Any] = nullable(document["components"])
    return components


@pytest.fixture
def ours(client: TestClient) -> dict[str, Any]:
    components: dict[str, Any] = client.get("/openapi.json").json()["components"]
    return components


OPENAI = {
    CHAT: ("CreateChatCompletionResponse", "CreateChatCompletionStreamResponse"),
    TEXT: ("CreateCompletionResponse", "CreateCompletionResponse"),
}
OURS = {CHAT: ("ChatCompletion", "ChatChunk"), TEXT: ("Completion", "Completion")}


@pytest.mark.parametrize(("path", "body"), ASKED, ids=str)
def test_answers_are_as_openai_describes_them(
    client: TestClient, openai: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    validator(openai, OPENAI[path][0]).validate(client.post(path, json=body).json())


@pytest.mark.parametrize(("path", "body"), ASKED + ECHOED, ids=str)
def test_answers_are_as_we_describe_them(
    client: TestClient, ours: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    validator(ours, OURS[path][0]).validate(client.post(path, json=body).json())


def streamed(client: TestClient, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    told = {"stream": True, "stream_options": {"include_usage": True}}
    return chunks_of(client.post(path, json=body | told))


@pytest.mark.parametrize(("path", "body"), ASKED, ids=str)
def test_chunks_are_as_openai_describes_them(
    client: TestClient, openai: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    check = validator(openai, OPENAI[path][1])
    for chunk in streamed(client, path, body):
        for choice in chunk["choices"]:
            if path == TEXT and choice["finish_reason"] is None:
                choice["finish_reason"] = "stop"  # OpenAI's schema knows no pieces of completions
        if path == TEXT and chunk["usage"] is None:
            del chunk["usage"]
        check.validate(chunk)


@pytest.mark.parametrize(("path", "body"), ASKED + ECHOED, ids=str)
def test_chunks_are_as_we_describe_them(
    client: TestClient, ours: dict[str, Any], path: str, body: dict[str, Any]
) -> None:
    for chunk in streamed(client, path, body):
        validator(ours, OURS[path][1]).validate(chunk)


def test_models_and_errors_are_as_both_describe_them(
    client: TestClient, openai: dict[str, Any], ours: dict[str, Any]
) -> None:
    models = client.get("/v1/models").json()
    validator(openai, "ListModelsResponse").validate(models)
    validator(ours, "ModelList").validate(models)
    for response in (
        client.get("/v1/models/none"),
        client.get("/nowhere"),
        client.post(CHAT, json={}),
        client.post(CHAT, json={"messages": [USER], "n": 99}),
    ):
        validator(openai, "ErrorResponse").validate(response.json())
        validator(ours, "ErrorBody").validate(response.json())


def test_a_full_server_is_as_both_describe_it(openai: dict[str, Any], ours: dict[str, Any]) -> None:
    stub = Stub()
    stub.refuse = Refused(503, "closing", "the server stops")
    body = asking(stub).post(CHAT, json={"messages": [USER]}).json()
    validator(openai, "ErrorResponse").validate(body)
    validator(ours, "ErrorBody").validate(body)


@pytest.mark.parametrize(("path", "body"), ASKED + ECHOED, ids=str)
def test_what_is_taken_is_described(ours: dict[str, Any], path: str, body: dict[str, Any]) -> None:
    name = {CHAT: "ChatRequest", TEXT: "CompletionRequest"}[path]
    described = validator(ours, name)
    described.validate(body)
    assert not described.is_valid(body | {"max_token": 1})
    assert not described.is_valid(body | {"temperature": 3})
    assert described.is_valid(body | {"response_format": {"type": "text"}})
    assert not described.is_valid(body | {"response_format": {"type": "json_object"}})
