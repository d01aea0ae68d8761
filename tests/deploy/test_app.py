"""The application: health, what is served, and one body for every error."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from deploy.app import make_app
from deploy.config import ServeConfig
from deploy.keys import KeyRing
from deploy.metrics import Metrics
from deploy.protocol import Job, Refused
from tests.deploy.stub import Stub

HOME = "http://127.0.0.1"

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def client(stub: Stub) -> Iterator[TestClient]:
    app = make_app(stub, ServeConfig(auth=False), metrics=Metrics())
    with TestClient(app, HOME, raise_server_exceptions=False) as client:
        yield client


def test_health_says_that_the_server_is_alive_and_ready_that_it_can_answer(
    stub: Stub, client: TestClient
) -> None:
    stub.cards.clear()
    assert client.get("/health").json() == {"status": "ok"}
    waiting = client.get("/ready")
    assert waiting.status_code == 503
    assert waiting.json()["error"]["code"] == "not_ready"
    assert "retry-after" in waiting.headers


def test_ready_names_the_models(client: TestClient) -> None:
    assert client.get("/ready").json()["models"] == ["humpty-chat", "humpty-base"]


def test_nobody_is_answered_before_a_model_is_there(stub: Stub, client: TestClient) -> None:
    stub.cards.clear()
    assert client.post("/v1/chat/completions", json=HELLO).status_code == 503


def test_models_are_listed_with_what_one_needs_to_know(client: TestClient) -> None:
    models = client.get("/v1/models").json()
    assert models["object"] == "list"
    assert [model["id"] for model in models["data"]] == ["humpty-chat", "humpty-base"]
    assert models["data"][0] == client.get("/v1/models/humpty-chat").json()
    assert models["data"][1]["chat"] is False
    assert models["data"][1]["max_model_len"] == 256


def test_a_model_may_have_slashes_in_its_name(stub: Stub, client: TestClient) -> None:
    stub.cards["org/humpty"] = stub.cards["humpty-chat"]
    assert client.get("/v1/models/org/humpty").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/chat/completions/", 404, "not_found"),
        ("GET", "/v1/models/humpty", 404, "model_not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_wrong_addresses_get_an_error_body(
    client: TestClient, method: str, path: str, status: int, code: str
) -> None:
    response = client.request(method, path, headers={"content-type": "application/json"})
    assert response.status_code == status
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code


def test_an_unknown_model_is_told_which_there_are(client: TestClient) -> None:
    response = client.post("/v1/chat/completions", json={"model": "humpty-chit", **HELLO})
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["param"] == "model"
    assert "did you mean humpty-chat?" in error["message"]
    assert "humpty-base" in error["message"]


def test_a_form_is_not_taken_for_json(client: TestClient) -> None:
    response = client.post("/v1/chat/completions", data={"messages": "x"})
    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"


def test_a_mistake_of_ours_is_a_500_with_a_request_id_and_without_the_prompt(
    stub: Stub, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    def generate(model: str, job: Job) -> None:
        raise RuntimeError(f"cannot do {job.prompts}")

    stub.generate = generate  # type: ignore[method-assign, assignment]
    response = client.post("/v1/chat/completions", json=HELLO)
    assert response.status_code == 500
    assert response.headers["x-request-id"] in response.json()["error"]["message"]
    assert response.json()["error"]["type"] == "server_error"
    assert "Hello" not in caplog.text


def test_a_full_engine_is_a_429_that_says_when_to_come_again(
    stub: Stub, client: TestClient
) -> None:
    stub.refuse = Refused(429, "queue_full", "all slots are taken")
    response = client.post("/v1/chat/completions", json=HELLO | {"stream": True})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["type"] == "rate_limit_error"


def test_without_a_key_only_the_page_and_health_answer(stub: Stub) -> None:
    app = make_app(stub, ServeConfig(), keys=KeyRing.of_plain("hk-" + 40 * "x"))
    with TestClient(app, HOME) as client:
        assert client.get("/health").status_code == client.get("/").status_code == 200
        for path in ("/v1/models", "/openapi.json", "/metrics"):
            assert client.get(path).status_code == 401
        asked = client.post("/v1/chat/completions", json=HELLO)
        assert asked.json()["error"]["code"] == "invalid_api_key"
        assert not stub.jobs
        key = {"authorization": "Bearer hk-" + 40 * "x"}
        assert client.post("/v1/chat/completions", json=HELLO, headers=key).status_code == 200


def test_numbers_count_what_was_written(client: TestClient) -> None:
    client.post("/v1/chat/completions", json=HELLO | {"max_tokens": 3})
    numbers = client.get("/metrics").text
    assert 'vllm:generation_tokens_total{model_name="humpty-chat"} 3.0' in numbers
    assert 'finished_reason="length"' in numbers
    assert 'vllm:num_requests_running{model_name="humpty-chat"} 0.0' in numbers


def test_refusals_are_counted_by_their_code(stub: Stub, client: TestClient) -> None:
    client.post("/v1/chat/completions", json=HELLO | {"n": 99})
    client.post("/v1/chat/completions", json=HELLO | {"model": "none"})
    stub.refuse = Refused(429, "queue_full", "full")
    client.post("/v1/chat/completions", json=HELLO)
    numbers = client.get("/metrics").text
    for code in ("invalid_value", "model_not_found", "queue_full"):
        assert f'humpty:refused_requests_total{{code="{code}"}} 1.0' in numbers


def test_the_access_line_tells_tokens_and_model_but_no_text(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    client.post("/v1/chat/completions", json=HELLO | {"max_tokens": 3})
    assert "in=2 out=3" in caplog.text
    assert "Hello" not in caplog.text
