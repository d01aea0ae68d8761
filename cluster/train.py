"""Pretraining on Ray Train: the same loop in W workers, fed by one ordered stream.

Workers come and go in groups (`cluster.workers`). Whenever one starts, the stream is built from the
newest checkpoint's cursor on, for as many workers as there are now, and every worker loads that
very checkpoint. Checkpoints are ours (`llm.checkpoint`): one
rename commits weights and data position together, while Ray Train would commit them at its
controller's next poll.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice

from ray.data import DataIterator

from cluster.config import ClusterConfig
from cluster.ingest import Dealing, Stream, blocks_of, shares_of
from cluster.room import demand_of, stream_cpus
from cluster.workers import Job, on_workers
from llm import checkpoint
from llm.data import Block, require_training_text
from llm.metrics import Emit, Event
from llm.outside import Outside, always
from llm.pretrain import pretraining
from llm.task import PretrainTask, sequences_of
from llm.units import units_of


def pretrain(
    task: PretrainTask, cluster: ClusterConfig, emit: Emit, fence: Callable[[], bool] = always
) -> Event:
    """Train a task on the connected cluster; returns its final figures."""
    require_training_text(units_of(task.data), task.data)
    job = Job(
        learn_text,
        task,
        cluster,
        demand_of(cluster, spare_cpus=stream_cpus(cluster)),
        task.train.checkpoint.mirror,
        fence,
        partial(deal, task, cluster),
    )
    return on_workers(job, emit)


def deal(task: PretrainTask, cluster: ClusterConfig, workers: int) -> list[DataIterator]:
    """The rest of the task's stream, from the newest checkpoint on: the share of each worker."""
    found = checkpoint.steps(task.checkpoints)[-1:]  # whole, as was settled before
    position = checkpoint.read_position(found[0]) if found else checkpoint.Position()
    stream = Stream(
        sequences_of(task),
        position.cursor,
        (task.train.steps - position.step) * task.train.batch,
        Dealing(task.train.batch, task.train.micro_batch, workers),
        units_of(task.data).bytes,
        cluster.ingest_cpus,
    )
    return shares_of(stream, cluster.read_ahead, cluster.data.labels)


def learn_text(task: PretrainTask, outside: Outside, share: DataIterator) -> Event:
    """What every worker of a pretraining runs."""
    stream = started(blocks_of(share, task.train.micro_batch))
    run, recipe = pretraining(task, outside)
    return run.run(lambda _: recipe.as_portions(stream))


def started(blocks: Iterator[Block]) -> Iterator[Block]:
    """The same blocks, the first fetched from now on, while the caller prepares for them."""
    thread = ThreadPoolExecutor(1)
    first = thread.submit(list, islice(blocks, 1))
    thread.shutdown(wait=False)
    return chain.from_iterable(part() for part in (first.result, lambda: blocks))
