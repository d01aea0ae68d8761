"""What the driver concludes: who hangs, why a group fell, whether another begins, how large."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import pytest
from ray.exceptions import ActorDiedError, RayActorError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2.api.exceptions import PreemptionError
from ray.train.v2.api.preemption import PreemptionInfo

from cluster.config import ClusterConfig
from cluster.exchange import Exchange, News, Orders, Sign, Told
from cluster.falls import Fall, fall_of, with_node
from cluster.line import Line
from cluster.patience import Patience
from cluster.room import demand_of, room_in
from cluster.watchdog import LATE_S, SILENT_S, START_S, awaited, hung
from llm.errors import DataError
from llm.faults import RolledBack
from llm.fell import Fell
from llm.outside import Wish

LOST = Told(0, 7, "RuntimeError: [gloo/transport] Connection closed by peer (train.py:1)", "")
BUG = Told(1, 7, "ZeroDivisionError: division by zero (rule.py:12)", "Traceback ...")


def sign(rank: int, idle: float, step: int = 5, begun: bool = True) -> Sign:
    return Sign(1, rank, "here", "forward", step, idle, begun, False)


def news(signs: list[Sign], ages: list[float]) -> News:
    return News([], signs, ages, [], False)


def dead() -> WorkerHealthCheckFailedError:
    return WorkerHealthCheckFailedError("gone", ActorDiedError())


def fell(failures: dict[int, Exception], told: list[Told], ranks: int = 2) -> Fall:
    return fall_of(WorkerGroupError("", failures), told, range(ranks))


# -- who hangs -------------------------------------------------------------------------------------


def test_whoever_gets_on_does_not_hang() -> None:
    assert hung(news([sign(0, 9.0), sign(1, 0.5)], [0.9, 0.2]), limit=10) is None


def test_all_that_have_not_got_on_hang_and_the_one_left_behind_is_named() -> None:
    found = hung(news([sign(0, 11.0, step=6), sign(1, 12.0, step=5)], [0, 0]), limit=10)
    assert found and [one.rank for one in found.signs] == [0, 1]
    assert found.why.endswith("hung: nothing for 10 s since forward 5")


def test_time_since_the_last_sign_counts_too() -> None:
    assert hung(news([sign(0, 6.0)], [5.0]), limit=10)


def test_a_silent_worker_is_told_from_those_that_wait_for_it() -> None:
    found = hung(news([sign(0, 1.0), sign(1, 0.0)], [0.1, SILENT_S + 1]), limit=300)
    assert found and [one.rank for one in found.signs] == [1]
    assert "rank 1 on here silent" in found.why


def test_all_wait_for_the_silent_and_else_for_those_that_have_done_least() -> None:
    busy, waiting, behind = sign(0, 1.0), sign(1, 12.0, step=6), sign(2, 12.0, step=5)
    assert awaited(news([busy, waiting], [0.1, 0.1])) == [waiting]
    assert awaited(news([behind, waiting], [0.1, 0.1])) == [behind]
    gone = sign(3, 0.5, step=6)
    assert awaited(news([behind, gone], [0.1, LATE_S + 1])) == [gone]
    assert awaited(news([busy, sign(1, 99.0, begun=False)], [0.1, 0.1])) == []


def test_loading_may_take_longer_than_a_step() -> None:
    assert hung(news([sign(0, START_S - 1, 0, begun=False)], [0]), limit=10) is None
    assert hung(news([sign(0, START_S + 1, 0, begun=False)], [0]), limit=10)


# -- why a group fell ------------------------------------------------------------------------------


def test_the_error_counts_not_what_it_does_to_the_others() -> None:
    fall = fell({0: Fell(*LOST)}, [LOST, BUG])
    assert str(fall) == f"rank 1, step 7: {BUG.cause}"
    assert fall.trace == BUG.trace and fall.kind == "fall"


def test_a_dead_worker_counts_more_than_lost_connections() -> None:
    fall = fell({0: Fell(*LOST), 1: dead()}, [LOST])
    assert (fall.rank, fall.cause) == (1, "the worker was killed")


def test_who_says_nothing_while_others_lose_their_connection_was_killed() -> None:
    fall = fell({0: Fell(*LOST)}, [LOST])
    assert (fall.rank, fall.cause) == (1, "the worker was killed")


def test_if_all_lost_their_connection_that_is_what_is_said() -> None:
    others = [LOST, LOST._replace(rank=1)]
    assert "Connection closed" in fell({0: Fell(*LOST)}, others).cause


def test_a_users_mistake_is_raised_as_it_is() -> None:
    with pytest.raises(DataError, match="no such file"):
        fell({0: Fell(*LOST), 1: DataError("no such file")}, [LOST])


def test_a_worker_that_is_missed_before_its_node_died_with_it() -> None:
    signs = [replace(sign(rank, 0.1), node=f"node {rank}") for rank in range(2)]
    killed = Fall("the worker was killed", rank=1)
    assert with_node(killed, signs, {"node 0"}).cause == "its node died"
    assert with_node(killed, signs, {"node 1"}) == killed
    assert with_node(Fall("a bug", rank=1), signs, {"node 0"}).cause == "a bug"


def test_a_reclaimed_node_is_no_failure_of_a_worker() -> None:
    error = PreemptionError(PreemptionInfo(None, {"node": [1]}))
    assert fall_of(error, [], range(2)) == Fall("its node was reclaimed", "preemption", 1)
    died = RayActorError(None, "its node is gone", False, preempted=True)
    wrapped = WorkerHealthCheckFailedError("gone", died)
    assert fell({0: Fell(*LOST), 1: wrapped}, [LOST]).kind == "preemption"


def test_going_back_and_a_missing_place_are_no_failures() -> None:
    assert fell({0: RolledBack("step 5: the loss is nan")}, []).kind == "going back"
    timeout = ControllerError(WorkerGroupStartupTimeoutError(2))
    assert fall_of(timeout, [], range(2)).kind == "no room"


def test_a_controller_that_died_is_a_fall_and_a_bug_of_ours_is_not() -> None:
    assert fall_of(ActorDiedError(), [], range(2)).kind == "fall"
    with pytest.raises(KeyError):
        fall_of(KeyError("mistake"), [], range(2))


# -- whether another group begins ------------------------------------------------------------------


def test_falls_count_in_a_row_without_a_new_checkpoint() -> None:
    cluster, patience = ClusterConfig(max_failures=2), Patience()
    fall = Fall("the worker was killed")
    for saved in (10, 20, 30, 30):  # the first three got on
        patience = patience.after("fall", saved)
        assert patience.spent(cluster, fall) is None
    patience = patience.after("fall", 30)
    assert patience.spent(cluster, fall) == (
        "fell 3 times, 2 allowed between two checkpoints (cluster.max_failures); "
        "the checkpoint of step 30 is kept"
    )


def test_preemptions_have_a_budget_of_their_own() -> None:
    fall = Fall("its node was reclaimed", "preemption")
    patience = Patience().after("preemption", 10).after("preemption", 20)
    assert patience.falls == 0
    assert patience.spent(ClusterConfig(max_failures=0), fall) is None
    spent = patience.spent(ClusterConfig(max_preemptions=1), fall)
    assert spent and spent.startswith("nodes were reclaimed 2 times, 1 allowed")


def test_going_back_costs_no_attempt() -> None:
    patience = Patience()
    for _ in range(9):
        patience = patience.after("going back", 0)
    assert patience.falls == 0


# -- how large -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "room"),
    [
        ([3, 2], 2),  # a worker each, one CPU is left for the stream
        ([2, 2], 1),  # none would be left
        ([3], 1),
        ([1, 1, 1], 0),  # no node holds a worker
        ([9, 9], 3),  # the most
        ([], 0),
    ],
)
def test_workers_fit_on_whole_nodes_and_leave_room_for_the_stream(
    nodes: list[int], room: int
) -> None:
    demand = demand_of(ClusterConfig(workers=(1, 3), cpus_per_worker=2), spare_cpus=1)
    assert room_in([{"CPU": float(cpus)} for cpus in nodes], demand) == room


def test_the_scarcest_resource_decides() -> None:
    config = ClusterConfig(workers=(1, 8), cpus_per_worker=4, gpus_per_worker=1)
    assert room_in([{"CPU": 96, "GPU": 2}, {"CPU": 8, "GPU": 8}], demand_of(config)) == 4


def test_a_fall_names_its_host_where_there_are_several() -> None:
    fall = Fall("its node died", rank=1, step=30, host="berta")
    assert str(fall) == "rank 1 on berta, step 30: its node died"
    assert str(Fall("its node died", rank=1, step=30)) == "rank 1, step 30: its node died"


# -- a worker's line ------------------------------------------------------------------------------


def line(monkeypatch: pytest.MonkeyPatch, preempted: bool = False) -> tuple[Line, MagicMock]:
    monkeypatch.setattr("cluster.line.is_preempted", lambda: preempted)
    exchange = MagicMock()
    return Line(exchange, 1, 0, None, "node", lambda: True), exchange


def committed(step: int, seconds: float = 0.0) -> dict[str, Any]:
    return {"event": "checkpoint", "step": step, "seconds": seconds}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_worker_that_makes_room_trains_no_step_behind_its_save(
    monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    worker, exchange = line(monkeypatch)
    worker.emit(committed(10))
    worker.hear(Orders(Wish.NOTHING, leave=True))
    assert worker.take() == Wish.SAVE
    if not asynchronous:
        worker.emit(committed(17))
    training = threading.Thread(target=worker.beat, args=("step", 17), daemon=True)
    training.start()
    while worker.parked_at < 0:
        training.join(0.01)
    if asynchronous:
        exchange.parked.remote.assert_not_called()
        worker.emit(committed(17))
    training.join(0.05)
    exchange.parked.remote.assert_called_with(1)
    assert training.is_alive()


def test_a_worker_has_begun_with_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, _ = line(monkeypatch, preempted=True)
    worker.beat("validation", 0)
    assert (worker.sign().doing, worker.sign().begun) == ("validation", False)
    worker.beat("step", 1)
    assert worker.sign().begun and worker.sign().reclaimed


def test_a_worker_that_is_to_save_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, exchange = line(monkeypatch)
    worker.ask(Wish.SAVE)
    assert worker.take() == Wish.SAVE
    worker.beat("step", 5)
    exchange.parked.remote.assert_not_called()


def test_while_its_node_is_reclaimed_each_save_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker, _ = line(monkeypatch, preempted=True)
    worker.hear(Orders(Wish.NOTHING))
    assert worker.take() == Wish.SAVE
    worker.hear(Orders(Wish.NOTHING))
    assert worker.take() == Wish.NOTHING, "the save is still being written"
    worker.emit(committed(5))
    worker.hear(Orders(Wish.NOTHING))
    assert worker.take() == Wish.SAVE
    worker.emit(committed(9, seconds=60.0))
    worker.hear(Orders(Wish.NOTHING))
    assert worker.take() == Wish.NOTHING, "long saves leave time to train"


def test_a_worker_out_of_touch_writes_only_once_it_is_heard_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker, _ = line(monkeypatch)
    assert worker.may_write()
    worker.answered -= SILENT_S + 1
    asked: list[bool] = []
    saving = threading.Thread(target=lambda: asked.append(worker.may_write()), daemon=True)
    saving.start()
    saving.join(0.3)
    assert not asked
    worker.hear(Orders(Wish.NOTHING))
    saving.join(5)
    assert asked == [True]


def test_a_worker_that_was_replaced_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, _ = line(monkeypatch)

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("os._exit", leave)
    with pytest.raises(SystemExit):
        worker.hear(Orders(Wish.NOTHING, replaced=True))


# -- the exchange ----------------------------------------------------------------------------------


def exchanged(scene: Callable[[Exchange], Any]) -> Any:
    async def play() -> Any:
        return await scene(Exchange())

    return asyncio.run(play())


def test_a_wish_reaches_a_worker_that_waits_at_once() -> None:
    async def scene(exchange: Exchange) -> Orders:
        sign = Sign(0, 0, "here", "step", 3, 0.0, True, False)
        waiting = asyncio.create_task(exchange.beat(sign))
        await asyncio.sleep(0)
        await exchange.give(Orders(Wish.STOP))
        return await asyncio.wait_for(waiting, 0.9)

    assert exchanged(scene).wish == Wish.STOP


def test_a_worker_of_an_earlier_group_learns_that_it_is_replaced() -> None:
    async def scene(exchange: Exchange) -> tuple[Orders, News]:
        exchange.begin(2)
        orders = await exchange.beat(Sign(1, 0, "here", "step", 3, 0.0, True, False))
        return orders, await exchange.news()

    orders, told = exchanged(scene)
    assert orders.replaced
    assert not told.signs


def test_nothing_of_a_fallen_group_counts_for_the_next() -> None:
    async def scene(exchange: Exchange) -> News:
        await exchange.give(Orders(Wish.NOTHING, leave=True))
        await exchange.beat(Sign(0, 0, "here", "step", 3, 0.0, True, False))
        await exchange.fell(0, BUG)
        await exchange.parked(0)
        exchange.begin(1)
        await exchange.fell(0, LOST)
        await exchange.parked(0)
        assert not exchange.orders.leave
        return await exchange.news()

    assert exchanged(scene) == News([], [], [], [], False)
