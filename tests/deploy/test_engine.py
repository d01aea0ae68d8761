"""The engine from outside: jobs in, events out, while others come and go."""

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deploy.config import EngineConfig
from deploy.core import Core
from deploy.engine import PATIENCE, Engine
from deploy.protocol import Begun, Ended, Event, Failed, Job, Piece, Prompt, Refused, Sampling
from llm.artifact import read_model
from llm.chat import Template, Turn
from llm.config import SamplingConfig
from llm.errors import SpecError
from llm.generate import write
from llm.reply import reply_in_pieces
from tests.deploy.tiny import write_folder

GREEDY = Sampling(temperature=0.0, max_tokens=20)
CONFIG = EngineConfig(slots=3, tokens=4 * 64, chunk=32, precision="fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("engine") / "model")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("engine") / "base", chat=False)


@contextlib.asynccontextmanager
async def running(folder: Path, config: EngineConfig = CONFIG) -> AsyncIterator[Engine]:
    engine = Engine(folder, "tiny", config, threads=1)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop(drain=0)


def with_engine(
    folder: Path, use: Callable[[Engine], Awaitable[None]], config: EngineConfig = CONFIG
) -> None:
    async def play() -> None:
        async with running(folder, config) as engine:
            await asyncio.wait_for(use(engine), 60)

    asyncio.run(play())


def job(*prompts: Prompt, sampling: Sampling = GREEDY, **more) -> Job:
    return Job(id="job", prompts=prompts, sampling=sampling, **more)


async def events(engine: Engine, asked: Job) -> list[Event]:
    return [event async for event in engine.generate(asked)]


def texts(found: list[Event]) -> dict[int, str]:
    """What each choice says."""
    said: dict[int, str] = {}
    for event in found:
        if isinstance(event, Piece):
            said[event.index] = said.get(event.index, "") + event.text
    return said


async def until(true: Callable[[], bool]) -> None:
    """Waits for the computing thread."""
    while not true():
        await asyncio.sleep(0.001)


def test_a_text_is_continued_as_llm_generate_does(base: Path) -> None:
    model, tokenizer = read_model(base)
    config = SamplingConfig(temperature=0.0, max_tokens=20)
    expected = "".join(write(model, tokenizer, "the king and", config))

    async def use(engine: Engine) -> None:
        found = await events(engine, job("the king and"))
        assert texts(found)[0] == expected
        assert found[0] == Begun(len(tokenizer.encode("the king and")) + 1, usage=0.0)
        assert isinstance(found[-1], Ended)
        ids = (tokenizer.eos, *tokenizer.encode("the king and"))
        assert texts(await events(engine, job(ids)))[0] == expected

    with_engine(base, use)


def test_a_conversation_is_answered_as_llm_reply_does(folder: Path) -> None:
    model, tokenizer = read_model(folder)
    config = SamplingConfig(temperature=0.0, max_tokens=20)
    expected = "".join(reply_in_pieces(model, tokenizer, "who sat on a wall?", config))

    async def use(engine: Engine) -> None:
        found = await events(engine, job((Turn("user", "who sat on a wall?"),)))
        assert texts(found)[0] == expected

    with_engine(folder, use)


def test_the_card_tells_what_is_served(folder: Path, base: Path) -> None:
    card = Engine(folder, "tiny", CONFIG, threads=1).card
    assert (card.id, card.context, card.chat, card.vocab_size) == ("tiny", 64, True, 320)
    other = Engine(base, "base", CONFIG, threads=1).card
    assert not other.chat and len(card.artifact) == 12


def test_memory_for_less_than_a_text_is_refused(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"engine\.tokens: 63 .* at least 64"):
        Engine(folder, "tiny", replace(CONFIG, tokens=63), threads=1)


def test_a_folder_without_weights_fails_to_start(folder: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "model.safetensors").write_bytes(b"nothing")

    async def start() -> None:
        await Engine(broken, "tiny", CONFIG, threads=1).start()

    with pytest.raises(Exception, match=r"model\.safetensors"):
        asyncio.run(start())


# What is refused


REFUSED: list[tuple[Job, str, str]] = [
    (job((Turn("user", "the king " * 40),)), "context_length_exceeded", "truncation"),
    (job("the king " * 90), "context_length_exceeded", "context is 64 tokens"),
    (job("the king", sampling=Sampling(max_tokens=64)), "context_length_exceeded", "fewer tokens"),
    (job((5, 320)), "invalid_value", "tokens are 0 to 319"),
    (job((-1,)), "invalid_value", "no token -1"),
    (job(()), "invalid_value", "empty"),
    (job("x", sampling=Sampling(logit_bias={320: 1.0})), "invalid_value", "no token 320"),
    (job("half \ud800"), "invalid_value", "half a surrogate pair"),
]


@pytest.mark.parametrize(("asked", "code", "message"), REFUSED, ids=lambda v: str(v)[:20])
def test_what_cannot_be_read_is_refused_with_what_to_do(
    folder: Path, asked: Job, code: str, message: str
) -> None:
    async def use(engine: Engine) -> None:
        (found,) = await events(engine, asked)
        assert isinstance(found, Refused)
        assert (found.status, found.code) == (400, code) and message in found.message
        assert engine.load == (0, 0, 0.0)

    with_engine(folder, use)


def test_models_that_were_not_taught_to_talk_refuse_conversations(base: Path) -> None:
    async def use(engine: Engine) -> None:
        (found,) = await events(engine, job((Turn("user", "hello"),)))
        assert isinstance(found, Refused) and found.code == "model_has_no_chat_template"

    with_engine(base, use)


def test_the_oldest_turns_fall_out_where_that_is_wanted(folder: Path) -> None:
    _, tokenizer = read_model(folder)
    template = Template(tokenizer)
    system, last = Turn("system", "be brief"), Turn("user", "an egg")
    old = [Turn("user", "the king and all his horses"), Turn("assistant", "ride to the wall")]
    asked = job((system, *old * 6, last), truncation="auto", sampling=replace(GREEDY, max_tokens=9))

    async def use(engine: Engine) -> None:
        found = await events(engine, asked)
        begun = found[0]
        assert isinstance(begun, Begun) and begun.dropped_messages % 2 == 0
        kept = 12 - begun.dropped_messages
        prompt = template.prompt((system, *(old * 6)[12 - kept :], last))
        assert begun.prompt_tokens == len(prompt) <= 64 - 9
        longer = template.prompt((system, *(old * 6)[10 - kept :], last))
        assert begun.dropped_messages > 0 and len(longer) > 64 - 9
        (refused,) = await events(engine, job((Turn("user", "the king " * 40),), truncation="auto"))
        assert isinstance(refused, Refused) and refused.code == "context_length_exceeded"

    with_engine(folder, use)


# Many at once


def test_a_crowd_gets_what_each_would_get_alone(folder: Path) -> None:
    source = random.Random(3)
    words = ["the", "king", "and", "all", "his", "horses", "ride", "国王的马", "höhö"]
    asked = [
        job(
            " ".join(source.choices(words, k=source.randint(1, 9))),
            sampling=Sampling(seed=number, max_tokens=source.randint(1, 20), top_p=0.95),
            n=source.randint(1, 2),
        )
        for number in range(24)
    ]

    async def use(engine: Engine) -> None:
        alone = [texts(await events(engine, one)) for one in asked]
        together = await asyncio.gather(*(events(engine, one) for one in asked))
        assert [texts(found) for found in together] == alone
        for one, found in zip(asked, together, strict=True):
            assert isinstance(found[0], Begun)
            assert sum(isinstance(event, Ended) for event in found) == one.n
        assert engine.load == (0, 0, 0.0)

    with_engine(folder, use)


def test_giving_up_frees_the_slots(folder: Path) -> None:
    endless = Sampling(max_tokens=60, ignore_end=True)

    async def use(engine: Engine) -> None:
        for _ in range(20):
            stream = engine.generate(job("the", sampling=endless, n=3))
            assert isinstance(await anext(stream), Begun)
            await stream.aclose()
        task = asyncio.create_task(events(engine, job("the", sampling=endless, n=3)))
        await until(lambda: engine.load.running == 3)
        task.cancel()
        await until(lambda: engine.load == (0, 0, 0.0))
        assert isinstance((await events(engine, job("the king")))[-1], Ended)

    with_engine(folder, use)


def test_the_loop_of_asyncio_is_free_while_the_engine_computes(folder: Path) -> None:
    async def use(engine: Engine) -> None:
        held, let_go = threading.Event(), threading.Event()

        def block(core: Core) -> None:
            held.set()
            let_go.wait(10)

        engine._post(block)
        asked = asyncio.create_task(events(engine, job("the king")))
        await until(held.is_set)
        assert engine.load.waiting <= 1  # answers at once, though the thread is stuck
        let_go.set()
        assert isinstance((await asked)[-1], Ended)

    with_engine(folder, use)


# Stops


def test_texts_end_before_a_stop_string_that_spans_tokens(base: Path) -> None:
    async def use(engine: Engine) -> None:
        whole = texts(await events(engine, job("the king and", sampling=GREEDY)))[0]
        assert len(whole) > 8
        stop = whole[4:8]
        found = await events(engine, job("the king and", sampling=replace(GREEDY, stop=(stop,))))
        assert texts(found)[0] == whole[: whole.index(stop)]
        assert found[-1] == Ended(0, "stop")
        longer = whole[4:] + "never"
        found = await events(engine, job("the king and", sampling=replace(GREEDY, stop=(longer,))))
        assert texts(found)[0] == whole

    with_engine(base, use)


# Failures


def failing(engine: Engine, times: int) -> None:
    """The next steps fail as a bug would make them."""
    core = engine._core
    assert core is not None
    step, left = core.step, times

    def fail() -> list:
        nonlocal left
        if left:
            left -= 1
            raise RuntimeError("out of memory")
        return step()

    core.step = fail  # type: ignore[method-assign]


def test_a_failed_step_fails_its_jobs_and_the_engine_goes_on(folder: Path) -> None:
    async def use(engine: Engine) -> None:
        expected = texts(await events(engine, job("the king")))
        stream = engine.generate(job("an egg", sampling=Sampling(max_tokens=50, ignore_end=True)))
        assert isinstance(await anext(stream), Begun)
        failing(engine, 1)
        rest = [event async for event in stream]
        assert isinstance(rest[-1], Failed)
        assert engine.healthy and engine.load.running == 0
        assert texts(await events(engine, job("the king"))) == expected

    with_engine(folder, use)


def test_an_engine_that_keeps_failing_says_so(folder: Path) -> None:
    async def use(engine: Engine) -> None:
        failing(engine, 10**9)
        asked = [job("the king") for _ in range(PATIENCE * CONFIG.slots + 5)]
        found = await asyncio.gather(*(events(engine, one) for one in asked))
        assert all(isinstance(each[-1], Failed | Refused) for each in found)
        assert not engine.healthy
        (refused,) = await events(engine, job("the king"))
        assert isinstance(refused, Refused) and refused.status == 503

    with_engine(folder, use)


def test_even_a_bug_outside_of_steps_leaves_nobody_waiting(folder: Path) -> None:
    async def use(engine: Engine) -> None:
        stream = engine.generate(job("an egg", sampling=Sampling(max_tokens=50, ignore_end=True)))
        assert isinstance(await anext(stream), Begun)

        def fail(core: Core) -> None:
            raise RuntimeError("nobody thought of this")

        engine._post(fail)
        assert isinstance([event async for event in stream][-1], Failed)
        assert not engine.healthy
        (refused,) = await events(engine, job("the king"))
        assert isinstance(refused, Refused) and refused.code == "engine_broken"

    with_engine(folder, use)


def test_stopping_lets_answers_end_and_takes_no_more(folder: Path) -> None:
    async def play() -> None:
        engine = Engine(folder, "tiny", CONFIG, threads=1)
        await engine.start()
        stream = engine.generate(job("the king", sampling=Sampling(max_tokens=50)))
        assert isinstance(await anext(stream), Begun)
        stopping = asyncio.create_task(engine.stop(drain=30))
        await asyncio.sleep(0)
        (refused,) = await events(engine, job("an egg"))
        assert isinstance(refused, Refused) and refused.code == "shutting_down"
        assert isinstance([event async for event in stream][-1], Ended)
        await stopping

    asyncio.run(asyncio.wait_for(play(), 60))


def test_stopping_without_patience_fails_what_is_left(folder: Path) -> None:
    async def play() -> None:
        engine = Engine(folder, "tiny", replace(CONFIG, slots=1), threads=1)
        await engine.start()
        endless = job("the king", sampling=Sampling(max_tokens=60, ignore_end=True), n=9)
        stream = engine.generate(endless)
        assert isinstance(await anext(stream), Begun)
        await engine.stop(drain=0)
        assert isinstance([event async for event in stream][-1], Failed)

    asyncio.run(asyncio.wait_for(play(), 60))


def test_no_gradients_and_no_threads_are_left(folder: Path) -> None:
    before = threading.active_count()

    async def use(engine: Engine) -> None:
        await events(engine, job("the king"))

    with_engine(folder, use)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert not any(thread.name == "engine" for thread in threading.enumerate())
    assert threading.active_count() <= before + 2
