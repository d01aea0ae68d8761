"""Bodies made to hurt: all are refused with our error body, quickly, and before an engine."""

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from deploy.body import DEPTH, parse, skeleton, too_deep
from deploy.errors import ApiError
from tests.deploy.serving import asking
from tests.deploy.stub import Stub

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"

USER = {"role": "user", "content": "Hello"}

BIG = 1_900_000
"""Bytes, just below the limit of a body."""


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def client(stub: Stub) -> TestClient:
    return asking(stub)


def post(client: TestClient, path: str, content: bytes) -> Any:
    headers = {"content-type": "application/json"}
    return client.post(path, content=content, headers=headers)


def check_refused(response: Any) -> None:
    assert 400 <= response.status_code < 500, response.text[:200]
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert len(error["message"]) < 400


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_every_body_of_the_json_test_suite_is_a_400(
    stub: Stub, client: TestClient, shared_data: Path, path: str
) -> None:
    files = sorted((shared_data / "g_hostile/JSONTestSuite").glob("*.json"))
    assert len(files) == 318
    for file in files:
        response = post(client, path, file.read_bytes())
        assert response.status_code == 400, file.name
        check_refused(response)
    assert not stub.jobs


def test_what_is_no_json_says_where(client: TestClient) -> None:
    error = post(client, CHAT, b'{"model": "x",\n"n": NaN}').json()["error"]
    assert error["code"] == "invalid_json"
    assert "line 2" in error["message"]


VALUES: dict[str, list[Any]] = {
    "n": [0, -1, 17, 1e9, 1e300, 2**63, 10**30, 1.5, "1", True, [], {}],
    "temperature": [-0.1, 2.1, 1e300, "0.5", True, [0.5]],
    "top_p": [-0.1, 1.1, "all"],
    "top_k": [-2, 10**18, 1.5],
    "min_p": [-1, 2],
    "max_tokens": [0, -5, 10**9, 1.5, "many"],
    "presence_penalty": [-2.5, 2.5],
    "frequency_penalty": [-3, "x"],
    "seed": [2**63, -(2**63) - 1, 10**4000, "x", 0.5],
    "stop": ["", [""], 5 * ["x"], [1], {"a": 1}, 300 * "x", 10**5 * ["x"]],
    "logit_bias": [{"1": 101}, {"x": 1}, {"-1": 1}, {"1": "x"}, {"1": True}, [1], {"1e1": 1}],
    "logprobs": [1, "yes"],
    "top_logprobs": [21, -1],
    "stream": ["yes", 1],
    "stream_options": [{"include_usage": 1}, {"x": 1}, []],
    "model": [5, 10**5 * "x", ["humpty-chat"]],
    "user": [5, 10**4 * "x"],
    "metadata": [{"a": 1}, {f"k{i}": "v" for i in range(17)}, {"a": 600 * "x"}],
    "truncation": ["oldest", True],
    "response_format": [{"type": "grammar"}, {"type": "json_schema", "json_schema": {}}],
    "messages": [[], {}, "Hello", [5], [[]], [{}], 5000 * [USER]],
    "__proto__": [{}],
    "messages[0]": [1],
    "": [1],
    "\x00": [1],
    10**4 * "x": [1],
}

HOSTILE = [(name, value) for name, values in VALUES.items() for value in values]


@pytest.mark.parametrize(
    ("name", "value"), HOSTILE, ids=[f"{n[:20]}={str(v)[:20]}" for n, v in HOSTILE]
)
def test_hostile_values_are_refused_at_once(
    stub: Stub, client: TestClient, name: str, value: Any
) -> None:
    content = json.dumps({"messages": [USER], name: value}).encode()
    check_refused(post(client, CHAT, content))
    assert cost(client, content) < 0.1
    assert not stub.jobs


def cost(client: TestClient, content: bytes) -> float:
    """Seconds of computing that a request takes; the least of three, for the collector of garbage
    comes when it likes."""

    def once() -> float:
        started = time.process_time()
        post(client, CHAT, content)
        return time.process_time() - started

    return min(once() for _ in range(3))


def fill(unit: bytes, begin: bytes, end: bytes) -> bytes:
    return begin + unit * ((BIG - len(begin) - len(end)) // len(unit)) + end


LARGE = {
    "unknown names": b"{" + b",".join(b'"k%d":1' % i for i in range(150_000)) + b"}",
    "wrong messages": fill(b"{},", b'{"messages":[', b"{}]}"),
    "messages that are numbers": fill(b"1,", b'{"messages":[', b"1]}"),
    "a message of unknown names": b'{"messages":[{'
    + b",".join(b'"k%d":1' % i for i in range(150_000))
    + b"}]}",
    "wrong parts": fill(b"{},", b'{"messages":[{"role":"user","content":[', b"{}]}]}"),
    "a bias for everything": b'{"messages":[{"role":"user","content":"x"}],"logit_bias":{'
    + b",".join(b'"%d":1' % i for i in range(150_000))
    + b"}}",
    "stop strings": fill(
        b'"x",', b'{"messages":[{"role":"user","content":"x"}],"stop":[', b'"x"]}'
    ),
    "brackets side by side": fill(b"[],", b'{"messages":[', b"[]]}"),
    "escapes": fill(b"\\\\", b'{"mesages":"', b'"}'),
    "a long name": fill(b"k", b'{"', b'":1}'),
    "a long number": fill(b"1", b'{"n":', b"}"),
    "a long fraction": fill(b"1", b'{"temperature":3.', b"}"),
    "not closed": fill(b"[", b"", b""),
    "zeros": fill(b"\x00", b"", b""),
    "blanks": fill(b" ", b"", b""),
}


@pytest.mark.parametrize("name", LARGE)
def test_two_megabytes_of_nonsense_cost_little(stub: Stub, client: TestClient, name: str) -> None:
    content = LARGE[name]
    assert len(content) < 2_000_000
    check_refused(post(client, CHAT, content))
    assert cost(client, content) < 0.2
    assert not stub.jobs


def test_a_prompt_of_a_million_wrong_tokens_is_one_error(stub: Stub, client: TestClient) -> None:
    content = b'{"prompt":[' + 900_000 * b"1," + b'"x"]}'
    tracemalloc.start()
    response = post(client, TEXT, content)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    check_refused(response)
    assert most < 60e6
    assert not stub.jobs


def test_naughty_strings_reach_the_engine_as_they_are(
    stub: Stub, client: TestClient, shared_data: Path
) -> None:
    strings = json.loads((shared_data / "g_hostile/blns.json").read_text())
    assert len(strings) == 515
    for string in strings:
        body = {"messages": [{"role": "user", "content": string}], "max_tokens": 1}
        assert client.post(CHAT, json=body).status_code == 200
        assert stub.jobs[-1].prompts[0] == (("user", string, 1.0),)


def test_naughty_names_are_unknown_and_nothing_worse(
    stub: Stub, client: TestClient, shared_data: Path
) -> None:
    for string in json.loads((shared_data / "g_hostile/blns.json").read_text()):
        model = client.post(CHAT, json={"messages": [USER], "model": string})
        assert model.status_code == (400 if len(string) > 256 else 404)
        check_refused(model)
        check_refused(client.post(CHAT, json={"messages": [USER], string: 1}))
    assert not stub.jobs


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_depth_is_limited() -> None:
    assert not too_deep(skeleton(nested(DEPTH)))
    assert too_deep(skeleton(nested(DEPTH + 1)))
    with pytest.raises(ApiError, match="levels"):
        parse(b'{"a":' + nested(DEPTH) + b"}")
    assert parse(b'{"a":' + nested(DEPTH - 1) + b"}")


def test_brackets_in_texts_are_no_levels() -> None:
    text = json.dumps({"a": '\\"' + "[{" * 100 + '"', "b": "]" * 50}).encode()
    assert not too_deep(skeleton(text))
    assert parse(text)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def wrapped(value: Any, levels: int) -> Any:
    for level in range(levels):
        value = [value] if level % 2 else {'"[': value}
    return value


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.text('[]{}"\\a', max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text('["\\', max_size=3), inner)
        ),
        max_leaves=40,
    ),
    st.integers(20, 40),
)
def test_peeling_counts_the_levels_that_walking_counts(value: Any, levels: int) -> None:
    value = wrapped(value, levels)
    assert too_deep(skeleton(json.dumps(value).encode())) == (depth_of(value) > DEPTH)
