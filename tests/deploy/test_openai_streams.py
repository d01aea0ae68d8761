"""Streams: what comes when, and what happens to them when something ends early."""

import json
import socket
from queue import Empty
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from deploy.app import make_app
from deploy.config import LimitsConfig, ServeConfig, TextFilterConfig
from deploy.filters import Filters
from deploy.metrics import Metrics
from deploy.protocol import Begun, Job
from tests.deploy.serving import asking, chunks_of, served
from tests.deploy.stub import Stub

PATH = "/v1/chat/completions"

BODY = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}


@pytest.fixture
def stub() -> Stub:
    return Stub()


def stream(stub: Stub, **body: Any) -> list[dict[str, Any]]:
    return chunks_of(asking(stub).post(PATH, json=BODY | body))


def deltas(chunks: list[dict[str, Any]], index: int = 0) -> list[dict[str, Any]]:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return [choice["delta"] for choice in choices if choice["index"] == index]


def test_role_comes_first_then_text_then_the_reason(stub: Stub) -> None:
    stub.answer = "Good morning."
    chunks = stream(stub)
    assert deltas(chunks) == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Good "},
        {"content": "morning."},
        {},
    ]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None, None, None, "stop"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


def test_usage_comes_last_and_without_a_choice_if_asked_for(stub: Stub) -> None:
    stub.answer = "Good morning."
    *before, last = stream(stub, stream_options={"include_usage": True})
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2
    assert all(chunk["usage"] is None for chunk in before)


def test_choices_come_side_by_side(stub: Stub) -> None:
    whole = asking(stub).post(PATH, json=BODY | {"n": 3, "seed": 1, "stream": False}).json()
    chunks = stream(stub, n=3, seed=1)
    order = [chunk["choices"][0]["index"] for chunk in chunks]
    assert order[:6] == [0, 1, 2, 0, 1, 2]
    for choice in whole["choices"]:
        pieces = [delta.get("content", "") for delta in deltas(chunks, choice["index"])]
        assert "".join(pieces) == choice["message"]["content"]


def test_logprobs_come_with_their_text(stub: Stub) -> None:
    stub.answer = "a b"
    chunks = stream(stub, logprobs=True, top_logprobs=1)
    told = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [t["content"][0]["token"] for t in told if t and t["content"]] == ["a ", "b"]


def test_a_shortened_conversation_says_so_in_header_and_chunks(stub: Stub) -> None:
    messages = [{"role": "user", "content": 60 * "word "} for _ in range(5)]
    body = BODY | {"messages": messages, "truncation": "auto"}
    response = asking(stub).post(PATH, json=body)
    assert response.headers["x-humpty-dropped-messages"] == "3"
    assert chunks_of(response)[0]["truncation"] == {"dropped_messages": 3}


def test_a_filter_ends_a_stream_and_nothing_of_the_word_gets_out(stub: Stub) -> None:
    stub.answer = "This is a secret thing."
    filters = Filters(TextFilterConfig(), ["secret thing"], None)
    chunks = chunks_of(asking(stub, filters=filters).post(PATH, json=BODY))
    text = "".join(delta.get("content", "") for delta in deltas(chunks))
    assert text.strip() == "This is a"
    assert chunks[-1]["choices"][0]["finish_reason"] == "content_filter"


def error_at_the_end(text: str) -> dict[str, Any]:
    *_, last, rest = text.split("\n\n")
    assert not rest
    error: dict[str, Any] = json.loads(last.removeprefix("data: "))["error"]
    return error


def test_a_fault_in_the_middle_is_told_in_the_stream(stub: Stub) -> None:
    stub.fail_after = 2
    response = asking(stub).post(PATH, json=BODY)
    assert response.status_code == 200
    assert "[DONE]" not in response.text
    assert error_at_the_end(response.text)["type"] == "server_error"


def test_a_fault_before_the_first_token_of_a_whole_answer_is_a_500(stub: Stub) -> None:
    stub.fail_after = 2
    response = asking(stub).post(PATH, json=BODY | {"stream": False})
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine_failed"


def test_a_stream_that_just_stops_is_an_error_too(stub: Stub) -> None:
    async def generate(model: str, job: Job) -> Any:
        yield Begun(1)

    stub.generate = generate  # type: ignore[method-assign]
    response = asking(stub).post(PATH, json=BODY)
    assert "broke off" in error_at_the_end(response.text)["message"]


def test_a_mistake_of_ours_in_the_middle_ends_the_stream_with_an_error(
    stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    async def generate(model: str, job: Job) -> Any:
        yield Begun(1)
        raise RuntimeError(str(job.prompts))

    stub.generate = generate  # type: ignore[method-assign]
    response = asking(stub).post(PATH, json=BODY)
    assert error_at_the_end(response.text)["code"] == "engine_failed"
    assert "RuntimeError" in caplog.text
    assert "Hello" not in caplog.text, "a message may hold a prompt"


@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_that_takes_too_long_ends_with_an_error(stub: Stub, streams: bool) -> None:
    stub.gate.shut()
    client = asking(stub, limits=LimitsConfig(timeout=0.05))
    response = client.post(PATH, json=BODY | {"stream": streams})
    if streams:
        assert error_at_the_end(response.text)["code"] == "timeout"
    else:
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "timeout"
        assert response.headers["x-should-retry"] == "false"
    assert stub.given_up.get(timeout=5) == stub.jobs[0].id


def test_the_first_token_does_not_wait_for_the_second(stub: Stub) -> None:
    stub.answer = "Good morning."
    stub.gate.shut()
    stub.gate.let(1)
    with (
        served(make_app(stub, ServeConfig(auth=False))) as url,
        httpx.stream("POST", url + PATH, json=BODY, timeout=10) as response,
    ):
        lines = (line for line in response.iter_lines() if line)
        assert '"role":"assistant"' in next(lines)
        assert '"content":"Good "' in next(lines)  # the gate lets no second one pass
        stub.gate.open()
        assert '"content":"morning."' in next(lines)


@pytest.mark.parametrize("streams", [False, True])
def test_when_the_client_leaves_the_engine_is_told_at_once(stub: Stub, streams: bool) -> None:
    stub.gate.shut()
    metrics = Metrics()
    app = make_app(stub, ServeConfig(auth=False), metrics=metrics)
    with served(app) as url:
        where = urlsplit(url)
        content = json.dumps(BODY | {"stream": streams}).encode()
        with socket.create_connection((where.hostname, where.port)) as client:
            head = f"POST {PATH} HTTP/1.1\r\nHost: {where.netloc}\r\n"
            head += "Content-Type: application/json\r\n"
            head += f"Content-Length: {len(content)}\r\n\r\n"
            client.sendall(head.encode() + content)
            if streams:
                assert client.recv(12) == b"HTTP/1.1 200"
            else:
                assert stub.came.get(timeout=5)
        # No token passes the gate: it is not the next one that tells that nobody is there.
        assert stub.given_up.get(timeout=5) == stub.jobs[0].id
        with pytest.raises(Empty):
            stub.given_up.get_nowait()
    assert 'finished_reason="abort"' in metrics.text()[0].decode()


def test_an_answer_that_nobody_hears_to_the_end_is_not_an_error(
    stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    stub.gate.shut()
    stub.gate.let(2)
    with served(make_app(stub, ServeConfig(auth=False))) as url:
        with httpx.stream("POST", url + PATH, json=BODY, timeout=10) as response:
            next(response.iter_lines())
        stub.given_up.get(timeout=5)
        assert httpx.get(url + "/health").status_code == 200
    assert "Error" not in caplog.text
    assert stub.running == 0
