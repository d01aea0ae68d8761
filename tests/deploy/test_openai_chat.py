"""Chat completions: what is asked of the engine, and what its events become."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from deploy.config import TextFilterConfig
from deploy.filters import Filters
from deploy.protocol import Sampling
from llm.chat import Turn
from tests.deploy.serving import asking
from tests.deploy.stub import Stub

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def stub() -> Stub:
    return Stub()


def ask(backend: Stub | TestClient, **body: Any) -> Any:
    client = asking(backend) if isinstance(backend, Stub) else backend
    response = client.post("/v1/chat/completions", json={"messages": HELLO} | body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(stub: Stub, **body: Any) -> Any:
    response = asking(stub).post("/v1/chat/completions", json={"messages": HELLO} | body)
    assert response.status_code == 400, response.text
    assert not stub.jobs, "refused before an engine was asked"
    return response.json()["error"]


def test_an_answer_has_openais_shape(stub: Stub) -> None:
    stub.answer = "Good morning."
    answer = ask(stub, model="humpty-chat")
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "humpty-chat"
    assert answer["system_fingerprint"] == "a1b2c3"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Good morning.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    # "<user", "Hello", and half of them remembered; "Good ", "morning."
    assert answer["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 2,
        "total_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 1},
    }


def test_the_first_model_answers_if_none_is_named(stub: Stub) -> None:
    assert ask(stub)["model"] == "humpty-chat"


def test_every_field_reaches_the_engine(stub: Stub) -> None:
    ask(
        stub,
        n=2,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        max_completion_tokens=7,
        stop=["\n", "END"],
        seed=11,
        presence_penalty=0.5,
        frequency_penalty=-1,
        logit_bias={"17": 5, "3": -100},
        logprobs=True,
        top_logprobs=3,
        ignore_eos=True,
        truncation="auto",
    )
    job = stub.jobs[0]
    assert job.prompts == ((Turn("user", "Hello"),),)
    assert (job.n, job.logprobs, job.echo, job.truncation) == (2, 3, False, "auto")
    assert job.sampling == Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        max_tokens=7,
        stop=("\n", "END"),
        seed=11,
        presence_penalty=0.5,
        frequency_penalty=-1.0,
        logit_bias={17: 5.0, 3: -100.0},
        ignore_end=True,
    )


def test_null_is_the_same_as_nothing(stub: Stub) -> None:
    names = ["model", "n", "temperature", "top_p", "max_tokens", "stop", "seed", "stream", "tools"]
    names += ["stream_options", "logit_bias", "logprobs", "response_format", "user", "metadata"]
    ask(stub, **dict.fromkeys(names))
    assert stub.jobs[0].sampling.temperature == 1.0
    assert stub.jobs[0].sampling.max_tokens is None


def test_without_a_seed_answers_differ_and_with_one_they_do_not(stub: Stub) -> None:
    ask(stub)
    ask(stub)
    ask(stub, seed=-5)
    ask(stub, seed=-5)
    first, second, third, fourth = [job.sampling.seed for job in stub.jobs]
    assert first != second
    assert third == fourth >= 0


def test_roles_and_parts_become_turns(stub: Stub) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "name": "ann",
            "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}],
        },
        # As clients send an answer back: all its fields, most of them empty.
        {"role": "assistant", "content": "A cat.", "refusal": None, "tool_calls": None},
        {"role": "user", "content": ""},
    ]
    ask(stub, messages=messages)
    assert stub.jobs[0].prompts[0] == (
        Turn("system", "Be brief."),
        Turn("user", "What is this?"),
        Turn("assistant", "A cat."),
        Turn("user", ""),
    )


def test_the_servers_system_prompt_is_for_conversations_without_one(stub: Stub) -> None:
    client = asking(stub, system="Rhyme.")
    ask(client)
    ask(client, messages=[{"role": "system", "content": "Do not."}, *HELLO])
    assert stub.jobs[0].prompts[0] == (Turn("system", "Rhyme."), Turn("user", "Hello"))
    assert stub.jobs[1].prompts[0] == (Turn("system", "Do not."), Turn("user", "Hello"))


def test_choices_come_in_their_order(stub: Stub) -> None:
    choices = ask(stub, n=3, seed=1)["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in choices}) == 3


def test_an_answer_that_was_cut_says_so(stub: Stub) -> None:
    stub.answer = "one two three"
    answer = ask(stub, max_tokens=2)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["content"] == "one two "


def test_logprobs_are_told_token_by_token(stub: Stub) -> None:
    stub.answer = "égg fall"
    content = ask(stub, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in content] == ["égg ", "fall"]
    assert content[0]["logprob"] == -0.4
    assert content[0]["bytes"] == list("égg ".encode())
    assert len(content[0]["top_logprobs"]) == 2
    bare = ask(stub, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert bare[0]["top_logprobs"] == []


def test_a_conversation_that_was_shortened_says_so(stub: Stub) -> None:
    messages = [{"role": "user", "content": 60 * "word "} for _ in range(5)]
    response = asking(stub).post(
        "/v1/chat/completions", json={"messages": messages, "truncation": "auto"}
    )
    assert response.json()["truncation"] == {"dropped_messages": 3}
    assert response.headers["x-humpty-dropped-messages"] == "3"
    assert "truncation" not in ask(stub)


def test_too_long_a_conversation_is_refused_unless_the_server_shortens(stub: Stub) -> None:
    messages = [{"role": "user", "content": 60 * "word "} for _ in range(5)]
    refusal = asking(stub).post("/v1/chat/completions", json={"messages": messages})
    assert refusal.status_code == 400
    assert refusal.json()["error"]["code"] == "context_length_exceeded"
    shortening = asking(stub, truncation="auto")
    assert ask(shortening, messages=messages)["truncation"] == {"dropped_messages": 3}
    strict = {"messages": messages, "truncation": "disabled"}
    assert shortening.post("/v1/chat/completions", json=strict).status_code == 400


def test_a_model_that_cannot_talk_says_what_it_can(stub: Stub) -> None:
    body = {"model": "humpty-base", "messages": HELLO}
    response = asking(stub).post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "model_has_no_chat_template"


@pytest.mark.parametrize(
    "harmless",
    [
        {"response_format": {"type": "text"}},
        {"store": False},
        {"tools": []},
        {"tool_choice": "none"},
        {"modalities": ["text"]},
        {"service_tier": "auto"},
        {"user": "u-1", "metadata": {"a": "b"}, "safety_identifier": "s"},
        {"stream_options": None},
        {"max_tokens": 5, "max_completion_tokens": 5},
        {"stop": []},
        {"top_p": 0},
        {"top_k": -1},
        {"n": 1.0, "temperature": 1},
    ],
    ids=str,
)
def test_what_asks_for_nothing_special_is_let_through(stub: Stub, harmless: dict[str, Any]) -> None:
    ask(stub, **harmless)


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tool_choice": "required"},
        {"functions": [{"name": "f"}]},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"audio": {"voice": "alloy", "format": "wav"}},
        {"modalities": ["text", "audio"]},
        {"prediction": {"type": "content", "content": "x"}},
        {"reasoning_effort": "high"},
        {"service_tier": "flex"},
        {"store": True},
        {"store": 0},
        {"web_search_options": {}},
    ],
    ids=str,
)
def test_what_is_not_supported_is_refused_by_name(stub: Stub, body: dict[str, Any]) -> None:
    error = refused(stub, **body)
    assert error["param"] == next(iter(body))
    assert error["code"] == "unsupported_parameter"


def test_a_misspelt_name_is_refused_with_a_suggestion(stub: Stub) -> None:
    error = refused(stub, max_token=5)
    assert error["code"] == "unknown_parameter"
    assert error["param"] == "max_token"
    assert "max_tokens" in error["message"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "content": "4", "tool_call_id": "x"}, "messages[0]"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content"),
        ({"role": "user", "content": None}, "messages[0].content"),
        ({"role": "user", "text": "x"}, "messages[0]"),
        ({"role": "user"}, "messages[0].content"),
        ({"content": "x"}, "messages[0].role"),
        ({"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}, "messages[0]"),
        ("Hello", "messages[0]"),
    ],
)
def test_a_message_that_is_none_is_refused_by_its_place(
    stub: Stub, message: Any, param: str
) -> None:
    assert refused(stub, messages=[message])["param"] == param


def test_numbers_must_be_within_bounds_and_the_bounds_are_told(stub: Stub) -> None:
    error = refused(stub, temperature=3)
    assert error["message"] == "temperature must be less than or equal to 2, not 3"
    assert error["param"] == "temperature"


def test_contradictions_are_refused(stub: Stub) -> None:
    assert refused(stub, max_tokens=5, max_completion_tokens=6)["param"] == "max_tokens"
    assert refused(stub, top_logprobs=2)["param"] == "top_logprobs"
    assert refused(stub, stream_options={"include_usage": True})["param"] == "stream_options"


def test_bias_for_a_token_that_is_none_is_refused(stub: Stub) -> None:
    assert "4095" in refused(stub, logit_bias={"4096": 1})["message"]


def test_a_question_with_a_listed_word_is_refused(stub: Stub) -> None:
    client = asking(stub, filters=Filters(TextFilterConfig(), ["secret"], None))
    messages = [{"role": "user", "content": "the SECRET of eggs"}]
    response = client.post("/v1/chat/completions", json={"messages": messages})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "content_filter"
    assert not stub.jobs


def test_an_answer_with_a_listed_word_ends_before_it(stub: Stub) -> None:
    stub.answer = "This is a secret thing."
    client = asking(stub, filters=Filters(TextFilterConfig(), ["secret"], None))
    choice = ask(client)["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["content"].strip() == "This is a"


def test_other_choices_go_on_where_one_is_blocked(stub: Stub) -> None:
    stub.answer = ("my secret is out", "all is well here")
    client = asking(stub, filters=Filters(TextFilterConfig(apply=("output",)), ["secret"], None))
    answer = ask(client, n=2)
    assert [choice["finish_reason"] for choice in answer["choices"]] == ["content_filter", "stop"]
    assert answer["choices"][0]["message"]["content"].strip() == "my"
    assert answer["choices"][1]["message"]["content"] == "all is well here"


def test_an_engine_is_not_kept_busy_for_what_is_not_shown(stub: Stub) -> None:
    stub.answer = "my secret " + 100 * "word "
    client = asking(stub, filters=Filters(TextFilterConfig(), ["secret"], None))
    ask(client)
    assert stub.given_up.get(timeout=5) == stub.jobs[0].id


def test_logprobs_would_show_what_a_filter_hides(stub: Stub) -> None:
    client = asking(stub, filters=Filters(TextFilterConfig(), ["secret"], None))
    body = {"messages": HELLO, "logprobs": True}
    assert client.post("/v1/chat/completions", json=body).json()["error"]["param"] == "logprobs"
