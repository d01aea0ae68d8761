"""A judge behind HTTP: asked twice, held to a time-out, asked again where that may help."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cluster import judge as module
from cluster.judge import Endpoint
from llm.chat import Turn
from llm.errors import DataError
from llm.evaluate_config import JudgeConfig

Reply = tuple[int, Any]


class Stub:
    """A server that answers as a function of what it is asked says."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.reply: Callable[[str], Reply] = lambda text: (200, "[[C]]")
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.asked.append({"path": self.path, **body})
                stub.keys.append(self.headers.get("Authorization"))
                status, content = stub.reply(body["messages"][0]["content"])
                if isinstance(content, str):
                    content = {"choices": [{"message": {"content": content}}]}
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                with suppress(OSError):  # who does not wait is not there any more
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    made = Stub()
    yield made
    made.server.shutdown()
    made.server.server_close()


def endpoint(stub: Stub, **options: Any) -> Endpoint:
    config = {"url": stub.url, "model": "judge", "key_env": "HUMPTY_TEST_KEY"} | options
    return Endpoint(JudgeConfig(**config), "stages.evaluate.wins.judge")


def pair(first: str, second: str) -> Any:
    return (Turn("user", "why?"),), first, second


def first_shown(text: str) -> str:
    return text.split("Assistant A's Answer]\n")[1].split("\n")[0]


def test_a_verdict_counts_if_both_orders_agree(stub: Stub) -> None:
    stub.reply = lambda text: (200, "[[A]]" if first_shown(text) == "good" else "so: [[B]]")
    assert endpoint(stub).judge([pair("good", "bad"), pair("bad", "good")]) == [1.0, 0.0]
    assert len(stub.asked) == 4
    assert stub.asked[0]["path"] == "/v1/chat/completions"
    assert stub.asked[0]["model"] == "judge"


def test_who_always_prefers_what_is_read_first_decides_nothing(stub: Stub) -> None:
    stub.reply = lambda text: (200, "[[A]]")
    assert endpoint(stub).judge([pair("good", "bad")]) == [0.5]


def test_no_verdict_is_a_tie_and_the_last_verdict_counts(stub: Stub) -> None:
    stub.reply = lambda text: (200, "both are fine")
    assert endpoint(stub).judge([pair("x", "y")]) == [0.5]
    assert endpoint(stub).verdict(*pair("x", "y")) == 0.5
    stub.reply = lambda text: (200, "not [[B]] but [[A]]")
    assert endpoint(stub).verdict(*pair("x", "y")) == 1.0


def test_answers_cannot_fill_in_each_other(stub: Stub) -> None:
    endpoint(stub, prompt="{question}|{first}|{second}").verdict(*pair("{second}", "b"))
    assert stub.asked[0]["messages"][0]["content"] == "why?|{second}|b"


def test_the_key_is_sent_and_stays_out_of_messages(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint(stub).verdict(*pair("x", "y"))
    assert stub.keys == [None]
    monkeypatch.setenv("HUMPTY_TEST_KEY", "sk-secret")
    stub.reply = lambda text: (401, {"error": {"message": "no such key"}})
    with pytest.raises(DataError) as error:
        endpoint(stub).verdict(*pair("x", "y"))
    assert stub.keys[1:] == ["Bearer sk-secret"]  # what a server refuses is not asked again
    assert "sk-secret" not in str(error.value)
    assert "answers 401" in str(error.value)
    assert "no such key" in str(error.value)
    assert "HUMPTY_TEST_KEY" in str(error.value)


def test_a_busy_server_is_asked_again(stub: Stub) -> None:
    replies = iter([(503, {}), (429, {}), (200, "[[A]]")])
    stub.reply = lambda text: next(replies)
    assert endpoint(stub).verdict(*pair("x", "y")) == 1.0


def test_tries_come_to_an_end(stub: Stub) -> None:
    stub.reply = lambda text: (500, {})
    with pytest.raises(DataError, match=r"stages\.evaluate\.wins\.judge: .* tried 3 times"):
        endpoint(stub, retries=2).judge([pair("x", "y")])
    stub.reply = lambda text: (200, b"<html>")
    with pytest.raises(DataError, match="answers what is no chat completion"):
        endpoint(stub, retries=0).verdict(*pair("x", "y"))


def test_a_silent_server_is_not_waited_for(stub: Stub) -> None:
    silent = threading.Event()

    def wait(text: str) -> Reply:
        silent.wait(5)
        return 200, "[[A]]"

    stub.reply = wait
    began = time.monotonic()
    with pytest.raises(DataError, match="cannot be reached: timed out"):
        endpoint(stub, timeout=0.2, retries=1).verdict(*pair("x", "y"))
    assert time.monotonic() - began < 4
    silent.set()


def test_nobody_listening_is_told() -> None:
    config = JudgeConfig(url="http://127.0.0.1:9/v1", model="m", retries=0)
    with pytest.raises(DataError, match=r"cannot be reached: .*refused"):
        Endpoint(config, "judge").verdict(*pair("x", "y"))
