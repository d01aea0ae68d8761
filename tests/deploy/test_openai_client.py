"""OpenAI's own client, over a real server, walks through everything that we offer."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.app import make_app
from deploy.config import ServeConfig
from deploy.keys import KeyRing
from deploy.protocol import Refused
from tests.deploy.serving import served
from tests.deploy.stub import Stub

openai = pytest.importorskip("openai", reason="needs OpenAI's client: pip install openai")

KEY = "hk-" + 40 * "a"

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Stub, str]]:
    stub = Stub()
    with served(make_app(stub, ServeConfig(), keys=KeyRing.of_plain(KEY))) as url:
        yield stub, url


@pytest.fixture
def stub(server: tuple[Stub, str]) -> Iterator[Stub]:
    stub, _ = server
    yield stub
    stub.answer = stub.refuse = stub.fail_after = None
    stub.gate.open()


@pytest.fixture
def client(server: tuple[Stub, str], stub: Stub) -> Any:
    return openai.OpenAI(base_url=server[1] + "/v1", api_key=KEY, max_retries=0)


def test_models_are_listed(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["humpty-chat", "humpty-base"]
    assert client.models.retrieve("humpty-base").owned_by == "humpty"


def test_a_chat_is_answered(client: Any, stub: Stub) -> None:
    stub.answer = "Good morning."
    answer = client.chat.completions.create(
        model="humpty-chat",
        messages=[{"role": "developer", "content": "Be kind."}, *HELLO],
        temperature=0.3,
        top_p=0.9,
        max_completion_tokens=10,
        stop=["\n"],
        seed=7,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        logit_bias={"5": 1},
        logprobs=True,
        top_logprobs=2,
        n=2,
        user="me",
        metadata={"a": "b"},
        store=False,
        response_format={"type": "text"},
        extra_body={"top_k": 5, "min_p": 0.1, "truncation": "auto"},
    )
    assert [choice.message.content for choice in answer.choices] == 2 * ["Good morning."]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].logprobs.content[0].token == "Good "
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 4
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert answer.system_fingerprint == "a1b2c3"


def test_an_answer_can_be_sent_back_with_the_next_question(client: Any, stub: Stub) -> None:
    first = client.chat.completions.create(model="humpty-chat", messages=HELLO)
    said = first.choices[0].message
    for back in (said, said.model_dump()):
        messages = [*HELLO, back, {"role": "user", "content": "And?"}]
        client.chat.completions.create(model="humpty-chat", messages=messages)
        assert stub.jobs[-1].prompts[0][1] == ("assistant", said.content, 1.0)


def test_a_chat_is_streamed(client: Any, stub: Stub) -> None:
    stub.answer = "Good morning."
    chunks = list(
        client.chat.completions.create(
            model="humpty-chat",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(pieces) == "Good morning."
    assert chunks[-1].usage.completion_tokens == 2
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_streaming_helper_puts_it_together(client: Any, stub: Stub) -> None:
    stub.answer = "Good morning."
    with client.chat.completions.stream(model="humpty-chat", messages=HELLO) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Good morning."


def test_leaving_a_stream_frees_its_slot(client: Any, stub: Stub) -> None:
    stub.gate.shut()
    stub.gate.let(1)
    stream = client.chat.completions.create(model="humpty-chat", messages=HELLO, stream=True)
    next(iter(stream))
    stream.close()
    assert stub.given_up.get(timeout=5)


def test_texts_are_continued(client: Any, stub: Stub) -> None:
    stub.answer = "a wall"
    answer = client.completions.create(
        model="humpty-base", prompt="sat on", echo=True, logprobs=1, max_tokens=1
    )
    assert answer.choices[0].text == "sat ona "
    assert answer.choices[0].logprobs.token_logprobs == [None, -0.2, -0.2]
    stream = client.completions.create(model="humpty-base", prompt=[1, 2], stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "a wall"


def test_the_asynchronous_client_asks_many_at_once(server: tuple[Stub, str], stub: Stub) -> None:
    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=server[1] + "/v1", api_key=KEY) as client:

            async def streamed(seed: int) -> str:
                stream = await client.chat.completions.create(
                    model="humpty-chat", messages=HELLO, seed=seed, stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            async def whole(seed: int) -> str:
                answer = await client.chat.completions.create(
                    model="humpty-chat", messages=HELLO, seed=seed
                )
                return str(answer.choices[0].message.content)

            asked = [ask(seed) for seed in range(8) for ask in (streamed, whole)]
            return list(await asyncio.gather(*asked))

    texts = asyncio.run(main())
    assert texts[0::2] == texts[1::2]
    assert len(set(texts)) == 8


def test_errors_are_the_clients_own_kinds(
    client: Any, server: tuple[Stub, str], stub: Stub
) -> None:
    def create(**more: Any) -> Any:
        return client.chat.completions.create(**{"model": "humpty-chat", "messages": HELLO} | more)

    with pytest.raises(openai.BadRequestError) as bad:
        create(temperature=5)
    assert (bad.value.param, bad.value.code) == ("temperature", "invalid_value")
    assert bad.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="gpt-5")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as tools:
        create(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    assert tools.value.param == "tools"
    with pytest.raises(openai.BadRequestError) as long:
        create(messages=[{"role": "user", "content": 300 * "word "}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError) as key:
        client.with_options(api_key="hk-" + 40 * "b").models.list()
    assert key.value.code == "invalid_api_key"
    stub.refuse = Refused(429, "queue_full", "full")
    with pytest.raises(openai.RateLimitError) as full:
        create(stream=True)
    assert full.value.response.headers["retry-after"] == "1"
    stub.refuse = Refused(503, "closing", "closing")
    with pytest.raises(openai.InternalServerError):
        create()


def test_a_stream_that_breaks_raises(client: Any, stub: Stub) -> None:
    stub.fail_after = 2
    stream = client.chat.completions.create(model="humpty-chat", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="broke"):
        list(stream)


def test_a_full_server_is_asked_again_by_itself(
    client: Any, server: tuple[Stub, str], stub: Stub
) -> None:
    """What Retry-After is for."""
    stub.refuse = Refused(429, "queue_full", "full")
    events = stub.events

    def once(*args: Any) -> Any:
        found = list(events(*args))
        stub.refuse = None
        return iter(found)

    stub.events = once  # type: ignore[method-assign, assignment]
    try:
        answer = client.with_options(max_retries=2).chat.completions.create(
            model="humpty-chat", messages=HELLO
        )
    finally:
        del stub.events
    assert answer.choices[0].message.content
