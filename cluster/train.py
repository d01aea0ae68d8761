"""Training on Ray Train: the same loop in W workers; a pretraining is fed by one ordered stream.

Workers come and go in groups. Whenever Ray Train starts a group, the dataset factory reads the
newest checkpoint's cursor and builds the stream from there, and every worker loads that very
checkpoint. Checkpoints are ours (`llm.checkpoint`): one rename commits weights and data position
together, while Ray Train would commit them at its controller's next poll.

A user's mistake is returned, not raised, since Ray Train would retry whatever is raised.
"""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import ray
import ray.train
import torch
from ray.data import Dataset
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.queue import Queue

from cluster.config import ClusterConfig
from cluster.ingest import Dealing, InOrder, Stream, blocks_of
from llm import checkpoint
from llm.data import Block, require_training_text
from llm.errors import UserError
from llm.metrics import Emit, Event
from llm.outside import Outside, always
from llm.pretrain import pretraining
from llm.task import PretrainTask, sequences_of
from llm.units import units_of

COLLECTIVE_TIMEOUT_S = 300


class InFolder(Protocol):
    """A task of any kind of training."""

    @property
    def folder(self) -> str:
        """Its artifact."""


@dataclass(frozen=True)
class StreamFactory:
    """Called by Ray Train at every start of a worker group: the rest of the task's stream."""

    task: PretrainTask
    cluster: ClusterConfig

    def __call__(self) -> Dataset:
        """The stream from the newest checkpoint on."""
        task = self.task
        found = checkpoint.newest(task.checkpoints)
        position = checkpoint.read_position(found) if found else checkpoint.Position()
        needed = (task.train.steps - position.step) * task.train.batch
        return Stream(
            sequences_of(task),
            position.cursor,
            needed,
            Dealing(task.train.batch, task.train.micro_batch, self.cluster.most_workers),
            units_of(task.data).bytes,
            self.cluster.ingest_cpus,
        ).dataset()


def pretrain(
    task: PretrainTask, cluster: ClusterConfig, emit: Emit, fence: Callable[[], bool] = always
) -> Event:
    """Train a task on the connected cluster; returns its final figures."""
    require_training_text(units_of(task.data), task.data)
    return on_workers(
        learn_text,
        task,
        cluster,
        emit,
        fence,
        datasets={"train": StreamFactory(task, cluster)},
        dataset_config=InOrder(cluster.read_ahead),
    )


def learn_text(task: PretrainTask, outside: Outside) -> Event:
    """What every worker of a pretraining runs."""
    shard = ray.train.get_dataset_shard("train")
    stream = started(blocks_of(shard, task.train.micro_batch))
    run, recipe = pretraining(task, outside)
    return run.run(lambda _: recipe.as_portions(stream))


def on_workers(
    loop: Callable[[Any, Outside], Event],
    task: InFolder,
    cluster: ClusterConfig,
    emit: Emit,
    fence: Callable[[], bool] = always,
    **streams: Any,
) -> Event:
    """Run loop(task, outside) in every worker of a group that is started again after a fall.

    Returns what the first worker's loop does. `streams` are TorchTrainer's data sets.
    """
    records = Path(task.folder) / "ray"
    shutil.rmtree(records, ignore_errors=True)  # of an attempt that was broken off
    with events_to(emit) as queue:
        trainer = TorchTrainer(
            work,  # type: ignore[arg-type]
            train_loop_config={
                "loop": loop,
                "task": task,
                "queue": queue,
                "cpus": cluster.cpus_per_worker,
                "fence": fence,
                "strategy": cluster.strategy,
            },
            scaling_config=ScalingConfig(
                num_workers=cluster.most_workers,
                use_gpu=cluster.gpus_per_worker > 0,
                resources_per_worker=resources(cluster),
            ),
            run_config=RunConfig(
                # Ray Train would resume a run of the same name from its own records.
                name=str(time.time_ns()),
                storage_path=str(records),
                failure_config=FailureConfig(max_failures=cluster.max_failures),
            ),
            torch_config=TorchConfig(timeout_s=COLLECTIVE_TIMEOUT_S),
            **streams,
        )
        with interruptible():
            outcome = trainer.fit().return_value  # type: ignore[attr-defined]
    shutil.rmtree(records)
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def resources(cluster: ClusterConfig) -> dict[str, float]:
    """What one worker reserves."""
    wanted: dict[str, float] = {"CPU": cluster.cpus_per_worker}
    return wanted | ({"GPU": cluster.gpus_per_worker} if cluster.gpus_per_worker else {})


def work(config: dict[str, Any]) -> Event | UserError:
    """What every worker runs."""
    use_device(config["cpus"])
    actor = config["queue"].actor
    try:
        outside = Outside(
            lambda event: actor.put_nowait.remote(event),
            may_write=config["fence"],
            strategy=config["strategy"],
        )
        return config["loop"](config["task"], outside)
    except UserError as error:
        return error


def use_device(cpus: int) -> None:
    """Compute on the GPU that Ray Train chose for this worker, or on its share of the cores."""
    torch.set_num_threads(cpus)
    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)


def started(blocks: Iterator[Block]) -> Iterator[Block]:
    """The same blocks, the first fetched from now on, while the caller prepares for them."""
    thread = ThreadPoolExecutor(1)
    first = thread.submit(list, islice(blocks, 1))
    thread.shutdown(wait=False)
    return chain.from_iterable(part() for part in (first.result, lambda: blocks))


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C stays an interrupt: Ray Train's own handler would end the program with exit code 0."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@contextmanager
def events_to(emit: Emit) -> Iterator[Queue]:
    """A queue on the cluster whose events reach `emit` in this process, in order."""
    queue = Queue(actor_options={"num_cpus": 0})

    def drain() -> None:
        with suppress(ray.exceptions.RayError):
            while (event := queue.get()) is not None:
                emit(event)

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    try:
        yield queue
        queue.put(None)
        reader.join()
    finally:
        queue.shutdown(force=True)
