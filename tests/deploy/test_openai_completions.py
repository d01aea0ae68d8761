"""Completions: texts and tokens to be continued, with log-probabilities in the old form."""

from typing import Any

import pytest

from deploy.completion_reply import Offsets
from deploy.config import TextFilterConfig
from deploy.filters import Filters
from deploy.protocol import TokenLogprob
from tests.deploy.serving import asking, chunks_of
from tests.deploy.stub import Stub


@pytest.fixture
def stub() -> Stub:
    return Stub()


def ask(stub: Stub, **body: Any) -> Any:
    response = asking(stub).post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("Once upon", ("Once upon",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_prompts_come_in_four_forms(stub: Stub, prompt: Any, prompts: Any) -> None:
    ask(stub, prompt=prompt)
    assert stub.jobs[0].prompts == prompts


@pytest.mark.parametrize(
    "prompt", [[], [[]], [["a"]], ["a", 1], [1, "a"], [1.5], [True], [-1], [4096], 5, None, {}]
)
def test_what_is_no_prompt_is_refused(stub: Stub, prompt: Any) -> None:
    response = asking(stub).post("/v1/completions", json={"prompt": prompt})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt"
    assert not stub.jobs


def test_sixteen_tokens_are_written_if_nothing_is_said(stub: Stub) -> None:
    ask(stub, prompt="a")
    assert stub.jobs[0].sampling.max_tokens == 16


def test_choices_of_several_prompts_are_numbered_through(stub: Stub) -> None:
    stub.answer = "x y"
    answer = ask(stub, prompt=["a", "b c"], n=2)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["object"] == "text_completion"
    assert answer["usage"]["prompt_tokens"] == 3
    assert answer["usage"]["completion_tokens"] == 8


def test_echo_gives_the_prompt_back_with_its_logprobs(stub: Stub) -> None:
    stub.answer = "wall"
    answer = ask(stub, prompt="on égg a", echo=True, logprobs=1, max_tokens=1)
    choice = answer["choices"][0]
    assert choice["text"] == "on égg awall"
    assert choice["logprobs"]["tokens"] == ["on ", "égg ", "a", "wall"]
    assert choice["logprobs"]["token_logprobs"] == [None, -0.4, -0.1, -0.4]
    assert choice["logprobs"]["text_offset"] == [0, 3, 7, 8]
    assert choice["logprobs"]["top_logprobs"][0] is None
    assert choice["logprobs"]["top_logprobs"][1] == {"égg ": -0.4}
    assert answer["usage"]["completion_tokens"] == 1


def test_echo_alone_writes_nothing(stub: Stub) -> None:
    choice = ask(stub, prompt="on a wall", echo=True, logprobs=0, max_tokens=0)["choices"][0]
    assert choice["text"] == "on a wall"
    assert choice["finish_reason"] == "length"
    assert choice["logprobs"]["top_logprobs"][1:] == [{"a ": -0.2}, {"wall": -0.4}]


def test_the_token_that_was_taken_is_among_the_probable_ones(stub: Stub) -> None:
    stub.answer = "extraordinarily"  # the stub finds alt0 more probable
    told = ask(stub, prompt="a", logprobs=1)["choices"][0]["logprobs"]["top_logprobs"][0]
    assert told == {"alt0 ": -0.5, "extraordinarily": -1.5}


def test_offsets_count_characters_that_tokens_share() -> None:
    half = ("🥚".encode()[:2], "🥚".encode()[2:])
    tokens = [TokenLogprob("?", part, -1.0) for part in (b"a", *half, b"b")]
    assert Offsets().of(tokens) == [0, 1, 1, 2]


def test_offsets_go_on_from_chunk_to_chunk(stub: Stub) -> None:
    stub.answer = "one two three"
    body = {"prompt": ["a", "b"], "logprobs": 0, "stream": True}
    chunks = chunks_of(asking(stub).post("/v1/completions", json=body))
    told = [
        (choice["index"], choice["logprobs"]["text_offset"])
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["logprobs"]
    ]
    assert told == [(0, [0]), (1, [0]), (0, [4]), (1, [4]), (0, [8]), (1, [8])]


def test_a_stream_adds_up_to_the_whole(stub: Stub) -> None:
    body = {"prompt": ["a", "b"], "n": 2, "seed": 3, "echo": True}
    whole = ask(stub, **body)
    response = asking(stub).post("/v1/completions", json=body | {"stream": True})
    texts = ["", "", "", ""]
    reasons = {}
    for chunk in chunks_of(response):
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
            if choice["finish_reason"]:
                reasons[choice["index"]] = choice["finish_reason"]
    assert texts == [choice["text"] for choice in whole["choices"]]
    assert reasons == {choice["index"]: choice["finish_reason"] for choice in whole["choices"]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"best_of": 3}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"logprobs": 6}, "logprobs"),
        ({"messages": []}, "messages"),
        ({"truncation": "auto"}, "truncation"),
        ({"prompt": 1024 * ["a"], "n": 2}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
    ],
    ids=str,
)
def test_what_is_not_offered_is_refused_by_name(
    stub: Stub, body: dict[str, Any], param: str
) -> None:
    response = asking(stub).post("/v1/completions", json={"prompt": "a"} | body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert not stub.jobs


def test_best_of_as_many_as_are_given_back_is_the_same_as_none(stub: Stub) -> None:
    ask(stub, prompt="a", n=2, best_of=2)


def test_a_base_model_continues_texts(stub: Stub) -> None:
    assert ask(stub, model="humpty-base", prompt="a")["model"] == "humpty-base"


def test_tokens_cannot_be_looked_at_so_they_do_not_pass_a_filter(stub: Stub) -> None:
    client = asking(stub, filters=Filters(TextFilterConfig(), ["secret"], None))
    refused = client.post("/v1/completions", json={"prompt": [1, 2]})
    assert refused.json()["error"]["param"] == "prompt"
    assert client.post("/v1/completions", json={"prompt": "my secret"}).status_code == 400
    assert client.post("/v1/completions", json={"prompt": "my hat"}).status_code == 200
