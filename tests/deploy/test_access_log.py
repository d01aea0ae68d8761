"""Faults and the log: an id for everybody, text for nobody."""

import asyncio
import io
from datetime import UTC, datetime

import pytest

from deploy import access_log
from deploy.access_log import Access
from deploy.asgi import Message, Receive, Scope, Send
from tests.deploy.guarding import (
    AUTH,
    JSON,
    KEY,
    ask,
    guarded,
    limited,
    say,
    unguarded,
)
from tests.deploy.logs import everything_logged

PROMPT = "a very private question"


def test_a_fault_is_500_with_an_id_and_its_place_in_the_log() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"].decode()
        raise ValueError(f"cannot read {body}")

    with everything_logged() as log:
        reply = ask(guarded(app), "POST", headers=(AUTH, JSON), body=PROMPT.encode())
    assert reply.status == 500 and reply.error["type"] == "server_error"
    id = reply.headers["x-request-id"]
    assert id in reply.error["message"] and id in log.getvalue()
    assert "ValueError" in log.getvalue() and "in app" in log.getvalue()
    assert PROMPT not in log.getvalue() and PROMPT.encode() not in reply.body


def test_a_fault_in_mid_answer_cuts_the_connection_and_says_nothing() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError(PROMPT)

    with everything_logged() as log, pytest.raises(Exception, match="broke off") as error:
        ask(guarded(app), headers=(AUTH,))
    assert error.value.__cause__ is None and error.value.__suppress_context__
    assert PROMPT not in log.getvalue()
    assert " 499 " in log.getvalue()


def test_a_fault_after_the_answer_is_logged_only() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, 500, b"{}")
        raise ValueError(PROMPT)

    with everything_logged() as log:
        assert ask(guarded(app), headers=(AUTH,)).body == b"{}"
    assert "ValueError" in log.getvalue() and PROMPT not in log.getvalue()


def test_no_log_has_prompt_or_key_whatever_is_asked() -> None:
    other = "hk-" + "k" * 43
    with everything_logged() as log:
        for guard in (guarded(), unguarded(), limited()[0]):
            for headers in ((AUTH,), (("authorization", f"Bearer {other}"),), (AUTH, AUTH)):
                for path in ("/v1/chat/completions", f"/v1/models/{other}", f"/{KEY}", "/a\nb c"):
                    for body in (PROMPT.encode(), PROMPT.encode() * 100):
                        ask(guard, "POST", path, (*headers, JSON), body, f"key={KEY}&q={PROMPT}")
    text = log.getvalue()
    assert PROMPT not in text and "private" not in text
    assert KEY not in text and other not in text
    assert text.count("Z req-") == text.count(" key=") == 3 * 3 * 4 * 2


def test_one_line_tells_a_request() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        access = scope["state"]["access"]
        access.model, access.prompt_tokens, access.generated_tokens = "tiny/chat", 34, 120
        await say(send, 200, b"{}")

    with everything_logged() as log:
        id = ("x-request-id", "req-7")
        ask(guarded(app), "POST", "/v1/completions", (AUTH, JSON, id), b"{}", "x=1")
    time, *rest = log.getvalue().splitlines()[-1].split()
    assert time.endswith("Z") and time[10] == "T"
    milliseconds = rest.pop(5)
    assert milliseconds.endswith("ms") and milliseconds[:-2].isdigit()
    assert rest == [
        *("req-7", "key=first", "POST", "/v1/completions", "200"),
        *("model=tiny/chat", "in=34", "out=120"),
    ]


def test_answers_are_counted_by_route_and_refusals_by_code() -> None:
    guard = guarded()
    ask(guard, headers=(AUTH,))
    ask(guard, path="/v1/models/x", headers=(AUTH,))
    ask(guard, path="/no/such/path", headers=(AUTH,))
    ask(guard, "BREW", "/", headers=(AUTH,))
    ask(guard)
    assert guard.metrics is not None
    text = guard.metrics.text()[0].decode()
    for line in (
        'http_requests_total{handler="/v1/models",method="GET",status="200"} 1.0',
        'http_requests_total{handler="/v1/models/{id}",method="GET",status="200"} 1.0',
        'http_requests_total{handler="other",method="GET",status="200"} 1.0',
        'http_requests_total{handler="/",method="OTHER",status="200"} 1.0',
        'http_requests_total{handler="/v1/models",method="GET",status="401"} 1.0',
        'humpty:refused_requests_total{code="invalid_api_key"} 1.0',
    ):
        assert line in text


def test_lifespan_passes_and_websockets_do_not() -> None:
    seen: list[str] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        for kind in ("lifespan", "websocket"):
            await guarded(app)({"type": kind, "headers": []}, None, send)  # type: ignore[arg-type]

    asyncio.run(run())
    assert seen == ["lifespan"] and sent == [{"type": "websocket.close", "code": 1008}]


def test_lines_are_shown_once_and_only_where_they_should_be() -> None:
    logger, before = access_log.logger, (access_log.logger.level, access_log.logger.propagate)
    stream = io.StringIO()
    try:
        access_log.show(stream)
        access_log.show(stream)
        with everything_logged() as elsewhere:
            ask(guarded(), headers=(AUTH, ("x-request-id", "req-8")))
    finally:
        logger.setLevel(before[0])
        logger.propagate = before[1]
        logger.handlers.clear()
    assert stream.getvalue().count(" req-8 key=first GET /v1/models 200 ") == 1
    assert elsewhere.getvalue().count("req-8") == 0


def test_a_path_cannot_write_a_line_of_its_own() -> None:
    now = datetime.now(UTC)
    for path in ("/a\nb key=root", "/\x1b[31m", "/\u2028x", "/" + "é" * 500, "/sk-" + "a" * 40):
        found = access_log.line(Access("req-9", "GET", path, now, status=200))
        assert len(found.split()) == 7 and found.isprintable() and len(found) < 800
        assert "aaaa" not in found
