"""What becomes of a job when replicas are full, away, broken or dying."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ray_exceptions = pytest.importorskip("ray.exceptions")
serve_exceptions = pytest.importorskip("ray.serve.exceptions")

from deploy.protocol import Begun, Ended, Event, Failed, Job, Piece, Refused  # noqa: E402
from deploy.serve import TRIES, RayBackend  # noqa: E402
from tests.deploy.services import model  # noqa: E402

WHOLE = [[Begun(3)], [Piece(0, "all", 1)], [Piece(0, " the", 1), Ended(0, "stop")]]
DIED = ray_exceptions.ActorDiedError()


class Answer:
    """A call whose items are lists of events, or an exception that it raises."""

    def __init__(self, items: list[Any]) -> None:
        self.items: Iterator[Any] = iter(items)
        self.cancelled = False

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self  # type: ignore[return-value]

    async def __anext__(self) -> list[Event]:
        item = next(self.items, None)
        if item is None:
            raise StopAsyncIteration
        if item == "waits":
            await asyncio.Event().wait()
        if isinstance(item, Exception):
            raise item
        return item

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """Gives one answer after the other."""

    def __init__(self, *answers: list[Any]) -> None:
        self.answers = [Answer(items) for items in answers]
        self.asked = 0

    def options(self, **options: Any) -> "Handle":
        return self

    def remote(self, *args: Any) -> Answer:
        self.asked += 1
        return self.answers[self.asked - 1]


@pytest.fixture
def backend(tmp_path: Path) -> Callable[[Handle], RayBackend]:
    source = model(tmp_path, "aaa")

    def make(handle: Handle) -> RayBackend:
        made = RayBackend(handle)  # type: ignore[arg-type]
        made.turn_to([source])
        return made

    return make


def events(backend: RayBackend) -> list[Event]:
    async def all_of() -> list[Event]:
        return [event async for event in backend.generate("humpty", Job(id="j", prompts=("a",)))]

    return asyncio.run(asyncio.wait_for(all_of(), 10))


def test_events_come_one_by_one(backend: Any) -> None:
    assert events(backend(Handle(WHOLE))) == [event for bundle in WHOLE for event in bundle]


def test_a_job_that_had_not_begun_goes_to_another_replica(backend: Any) -> None:
    handle = Handle([DIED], WHOLE)
    assert events(backend(handle))[-1] == Ended(0, "stop")
    assert handle.asked == 2


def test_a_job_whose_replicas_all_die_is_refused_for_now(backend: Any) -> None:
    handle = Handle(*[[DIED]] * TRIES)
    (refused,) = events(backend(handle))
    assert isinstance(refused, Refused) and refused.status == 503


def test_an_answer_that_breaks_off_says_so_and_is_not_begun_again(backend: Any) -> None:
    handle = Handle([*WHOLE[:2], DIED], WHOLE)
    assert events(backend(handle))[:2] == [Begun(3), Piece(0, "all", 1)]
    assert isinstance(events(backend(Handle([*WHOLE[:2], DIED])))[-1], Failed)
    assert handle.asked == 1


def test_no_replica_is_a_503(backend: Any) -> None:
    away = serve_exceptions.DeploymentUnavailableError("Engines")
    (refused,) = events(backend(Handle([away])))
    assert isinstance(refused, Refused) and refused.status == 503


def test_a_model_that_was_taken_away_is_a_404(backend: Any) -> None:
    async def ask() -> list[Event]:
        job = Job(id="j", prompts=("a",))
        return [event async for event in backend(Handle()).generate("gone", job)]

    (refused,) = asyncio.run(ask())
    assert isinstance(refused, Refused) and refused.status == 404


def test_an_answer_is_complete_before_ray_says_so(backend: Any) -> None:
    handle = Handle([*WHOLE, "waits"])
    assert events(backend(handle))[-1] == Ended(0, "stop")
    assert not handle.answers[0].cancelled


def test_a_bug_in_an_engine_is_a_failed_answer_without_a_traceback(backend: Any) -> None:
    bug = ray_exceptions.RayTaskError("generate", "Traceback: secret", ValueError("secret"))
    (failed,) = events(backend(Handle([bug])))
    assert isinstance(failed, Failed) and "secret" not in failed.message


def test_whoever_leaves_cancels_the_call(backend: Any) -> None:
    async def leave(handle: Handle) -> None:
        stream = backend(handle).generate("humpty", Job(id="j", prompts=("a",)))
        assert await anext(stream) == Begun(3)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await stream.aclose()

    handle = Handle([WHOLE[0], "waits"])
    asyncio.run(leave(handle))
    assert handle.answers[0].cancelled


def test_a_front_that_drains_takes_nothing_new_and_waits_for_the_rest(backend: Any) -> None:
    async def drain() -> None:
        draining = backend(Handle(WHOLE))
        stream = draining.generate("humpty", Job(id="j", prompts=("a",)))
        await anext(stream)
        waiting = asyncio.create_task(draining.drain(60))
        await asyncio.sleep(0)
        (refused,) = [e async for e in draining.generate("humpty", Job(id="k", prompts=("a",)))]
        assert not draining.models(), "so that /ready says no"
        assert isinstance(refused, Refused) and refused.status == 503
        assert not waiting.done()
        assert [event async for event in stream][-1] == Ended(0, "stop")
        assert await waiting == 0

    asyncio.run(asyncio.wait_for(drain(), 10))


def test_draining_ends_when_its_time_is_over(backend: Any) -> None:
    async def drain() -> None:
        draining = backend(Handle([WHOLE[0], "waits"]))
        stream = draining.generate("humpty", Job(id="j", prompts=("a",)))
        await anext(stream)
        assert await draining.drain(0.01) == 1

    asyncio.run(asyncio.wait_for(drain(), 10))
