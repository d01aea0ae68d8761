"""The whole application from outside: which doors are open, what is written down and counted."""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import to_json
from starlette.testclient import TestClient

from deploy.app import make_app
from deploy.asgi import Message
from deploy.config import EngineConfig, LimitsConfig, ServeConfig, TextFilterConfig
from deploy.filters import Filters
from deploy.guard import OPEN, ROUTES, SAME_MACHINE, Guard
from deploy.keys import KeyRing
from deploy.metrics import Metrics
from deploy.page import PATHS
from deploy.protocol import Refused
from tests.deploy.guarding import JSON, scope_of
from tests.deploy.logs import everything_logged
from tests.deploy.stub import Stub

KEY = "hk-" + 40 * "k"

SECRET = "my cat is called Schrödinger"

ANSWER = "what a peculiar cat you have"

HOME = "http://127.0.0.1"


def client(stub: Stub, *, keys: bool = True, **parts: Any) -> TestClient:
    """Asks with the key KEY, unless told otherwise."""
    config = ServeConfig(auth=keys, **parts.pop("config", {}))
    ring = KeyRing.of_plain(KEY) if keys else None
    app = make_app(stub, config, keys=ring, **parts)
    headers = {"authorization": f"Bearer {KEY}"}
    return TestClient(app, HOME, raise_server_exceptions=False, headers=headers)


def chat(text: str = SECRET, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def routes(found: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of everything that an application answers."""
    for route in found:
        if (router := getattr(route, "original_router", None)) is not None:
            yield from routes(router.routes, prefix)
        else:
            yield from ((method, prefix + route.path) for method in route.methods)


def test_every_route_but_the_named_ones_asks_for_a_key() -> None:
    app = make_app(Stub(), ServeConfig(), keys=KeyRing.of_plain(KEY), metrics=Metrics())
    stranger = TestClient(app, HOME)
    found = set(routes(app.app.routes))  # type: ignore[attr-defined]
    assert {path for _, path in found} >= {"/metrics", "/openapi.json", "/v1/completions", "/"}
    for method, path in found:
        reply = stranger.request(method, path.replace("{id:path}", "humpty-chat"))
        is_open = method in ("GET", "HEAD") and path in OPEN | PATHS
        assert (reply.status_code == 401) == (not is_open), (method, path)


def test_every_route_has_its_own_name_in_the_numbers() -> None:
    app = make_app(Stub(), ServeConfig(), keys=KeyRing.of_plain(KEY), metrics=Metrics())
    found = {path for _, path in routes(app.app.routes)}  # type: ignore[attr-defined]
    assert found - {"/v1/models/{id:path}"} <= ROUTES | OPEN | PATHS


def test_no_log_holds_what_was_asked_or_answered_whatever_happens(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "judge.py").write_text(
        "def judge(text):\n    raise ValueError(text)\n", encoding="utf-8"
    )
    hooked = Filters.load(TextFilterConfig(hook=f"{tmp_path / 'judge.py'}:judge"))
    with everything_logged() as log:
        for filters in (None, hooked):
            for stub in stubs():
                asking = client(stub, filters=filters, metrics=Metrics())
                for stream in (False, True):
                    asking.post("/v1/chat/completions", json=chat(stream=stream, user=SECRET))
                    body = {"prompt": SECRET, "stream": stream, "echo": True}
                    asking.post("/v1/completions", json=body)
                asking.post("/v1/chat/completions", json=chat(model=SECRET))
                asking.post("/v1/chat/completions", json={SECRET: SECRET})
                asking.post("/v1/completions", content=f"{{{SECRET}".encode())
                asking.get(f"/v1/models/{KEY}", params={"q": SECRET})
                asking.post("/v1/completions", json={}, headers={"authorization": KEY + SECRET[:2]})
    written = log.getvalue() + "".join(capfd.readouterr())
    assert "key=first POST /v1/chat/completions 200" in written
    assert "failed with RuntimeError" in written and " 500 " in written
    for word in ("Schrödinger", "peculiar", KEY, "my cat"):
        assert word not in written


class Broken(Stub):
    """Fails with the question in its message."""

    def generate(self, model: str, job: Any) -> Any:
        raise RuntimeError(str(job))


def stubs() -> list[Stub]:
    """One that answers, and all the others."""
    answering, refusing, failing = Stub(), Stub(), Stub()
    answering.answer = ANSWER
    refusing.refuse = Refused(429, "queue_full", "full")
    failing.fail_after = 2
    return [answering, refusing, failing, Broken()]


def test_listed_words_neither_come_in_nor_go_out(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("forbidden fruit\n秘密\n", encoding="utf-8")
    filters = Filters.load(TextFilterConfig(words=str(tmp_path / "words.txt")))
    stub = Stub()
    asking = client(stub, filters=filters)
    refused = asking.post("/v1/chat/completions", json=chat("Where is the FORBIDDEN  fruit?"))
    assert refused.status_code == 400 and refused.json()["error"]["code"] == "content_filter"
    assert not stub.jobs
    for answer, kept in (
        ("Here is the Forbidden Fruit for you", "Here is the "),
        ("这是秘密吗", "这是"),
        ("The forbidden door", None),
    ):
        stub.answer = answer
        reply = asking.post("/v1/chat/completions", json=chat()).json()["choices"][0]
        assert reply["message"]["content"] == (answer if kept is None else kept)
        assert reply["finish_reason"] == ("stop" if kept is None else "content_filter")
        streamed = asking.post("/v1/chat/completions", json=chat(stream=True)).text
        assert ("Forbidden" in streamed or "秘密" in streamed) is False
    assert stub.running == 0


def test_the_numbers_of_an_answer_reach_prometheus_and_the_log() -> None:
    stub = Stub()
    stub.answer = "one two three"
    with everything_logged() as log:
        asking = client(stub, metrics=Metrics())
        usage = asking.post("/v1/chat/completions", json=chat()).json()["usage"]
    text = asking.get("/metrics").text
    model = 'model_name="humpty-chat"'
    for line in (
        f"vllm:generation_tokens_total{{{model}}} 3.0",
        f"vllm:prompt_tokens_total{{{model}}} {float(usage['prompt_tokens'])}",
        f'vllm:request_success_total{{finished_reason="stop",{model}}} 1.0',
        f"vllm:time_to_first_token_seconds_count{{{model}}} 1.0",
        f"vllm:num_requests_running{{{model}}} 0.0",
        'http_requests_total{handler="/v1/chat/completions",method="POST",status="200"} 1.0',
    ):
        assert line in text
    line = next(line for line in log.getvalue().splitlines() if "/v1/chat/completions" in line)
    assert line.endswith(f"model=humpty-chat in={usage['prompt_tokens']} out=3")


def test_the_page_of_another_site_cannot_use_a_server_without_keys() -> None:
    stub = Stub()
    asking = client(stub, keys=False)
    body = '{"messages": [{"role": "user", "content": "x"}]}'
    form = {"content-type": "text/plain", "origin": "https://evil.example"}
    assert asking.post("/v1/chat/completions", content=body, headers=form).status_code == 415
    wanted = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert asking.options("/v1/chat/completions", headers=wanted).status_code == 403
    rebound = asking.get("/v1/models", headers={"host": "evil.example"})
    assert rebound.status_code == 403 and not stub.jobs
    for host in SAME_MACHINE - {"::1"}:
        assert asking.get("/v1/models", headers={"host": host}).status_code == 200


def test_a_revoked_key_stops_working_in_a_running_server(tmp_path: Path) -> None:
    from deploy.keys import LOOK_AGAIN, new_key

    now = [0.0]
    (plain, line), (_, other) = new_key("ada"), new_key("eve")
    path = tmp_path / "keys"
    path.write_text(f"{line}\n{other}\n")
    ring = KeyRing.of_file(path, clock=lambda: now[0])
    asking = TestClient(make_app(Stub(), ServeConfig(), keys=ring), HOME)
    headers = {"authorization": f"Bearer {plain}"}
    assert asking.get("/v1/models", headers=headers).status_code == 200
    path.write_text(f"{other}\n")
    now[0] += LOOK_AGAIN
    assert asking.get("/v1/models", headers=headers).status_code == 401


def test_refusals_for_too_many_requests_tell_when_to_come_again() -> None:
    asking = client(Stub(), config={"limits": LimitsConfig(requests_per_minute=2)})
    found = [asking.post("/v1/chat/completions", json=chat()) for _ in range(3)]
    assert [reply.status_code for reply in found] == [200, 200, 429]
    assert 1 <= int(found[2].headers["retry-after"]) <= 30
    assert found[2].json()["error"]["code"] == "rate_limit_exceeded"


class Caller:
    """A client that waits for its answer until it leaves."""

    def __init__(self, app: Guard) -> None:
        self.body: list[Message] = [
            {"type": "http.request", "body": to_json(chat(stream=True)), "more_body": False}
        ]
        self.left = asyncio.Event()
        self.status: int | None = None
        self.text = b""
        scope = scope_of("POST", "/v1/chat/completions", (JSON,))
        self.task = asyncio.create_task(app(scope, self.receive, self.send))  # type: ignore[arg-type]

    async def receive(self) -> Message:
        if self.body:
            return self.body.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.text += message.get("body", b"")


def crowded(stub: Stub) -> Guard:
    """Two slots, and two requests that wait."""
    config = ServeConfig(
        auth=False,
        engine=EngineConfig(slots=2),
        limits=LimitsConfig(queue=2, concurrency=1000, requests_per_minute=100_000),
    )
    return make_app(stub, config)


def test_a_crowd_is_answered_or_refused_and_nobody_waits_for_nothing() -> None:
    async def run() -> None:
        stub = Stub()
        app = crowded(stub)
        stub.gate.shut()
        callers = [Caller(app) for _ in range(16)]
        refused = [caller.task for caller in callers[4:]]
        await asyncio.wait_for(asyncio.gather(*refused), 30)
        assert [caller.status for caller in callers[4:]] == [429] * 12
        stub.gate.open()
        await asyncio.wait_for(asyncio.gather(*(caller.task for caller in callers)), 30)
        assert [caller.status for caller in callers[:4]] == [200] * 4
        assert all(caller.text.endswith(b"data: [DONE]\n\n") for caller in callers[:4])
        assert app.limiter.queued == stub.running == 0

    asyncio.run(run())


def test_a_hundred_clients_that_leave_free_their_places() -> None:
    async def run() -> None:
        stub = Stub()
        app = crowded(stub)
        for _ in range(25):
            stub.gate.shut()
            callers = [Caller(app) for _ in range(4)]
            while stub.running < 4:
                await asyncio.sleep(0)
            for number, caller in enumerate(callers):
                caller.left.set() if number % 2 else caller.task.cancel()
            gone = asyncio.gather(*(caller.task for caller in callers), return_exceptions=True)
            await asyncio.wait_for(gone, 30)
            assert app.limiter.queued == stub.running == 0 and not app.limiter.inside

    asyncio.run(run())
