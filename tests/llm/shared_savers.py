"""Processes that share out a model, save it, fall while they save, and load it in other numbers.

    python -m tests.llm.shared_savers ARTIFACT

Every number is a function of its place, so that each process can check its rows by itself. The
processes are forks of one that has loaded torch, which saves seconds for each of them.
"""

import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

from llm import checkpoint
from llm.config import CheckpointConfig
from llm.errors import ArtifactError
from llm.metrics import RunLog
from llm.outside import Outside, Wish, silent
from llm.parallel import shared_out
from llm.pieces import piece_of
from llm.saver import Saver
from llm.world import World
from tests.saved import State, position

Scenario = Callable[[Saver, "Shared"], None]


class Shared(State):
    """The state after `fully_shard`, or as it is."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        if shared:
            fully_shard(self.model[1])
            fully_shard(self.model)
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0, fused=True)
            self.model(torch.arange(7)).sum().backward()
            self.optimizer.step()

    def expected(self) -> dict[str, torch.Tensor]:
        """What each process should hold of each tensor."""
        made = {}
        for number, (name, tensor) in enumerate(sorted(self.tensors().items())):
            own = piece_of(tensor)
            count = 1
            for length in own.shape:
                count *= length
            values = torch.arange(count, dtype=torch.float32).reshape(own.shape) + 100 * number
            made[name] = values[own.first : own.stop] if own.shape else values
        return made

    def fill(self) -> None:
        """Take the expected values."""
        with torch.no_grad():
            for name, values in self.expected().items():
                piece_of(self.tensors()[name]).rows.copy_(values)


def save(saver: Saver, state: Shared) -> None:
    """Commit step 1, and spoil the state while it is being written."""
    assert saver.restore(state.model, state.optimizer) is None
    state.fill()
    saver.save(state.model, state.optimizer, position(1))
    for tensor in state.tensors().values():
        tensor.detach().zero_()
    saver.close()
    load(saver, state)


def load(saver: Saver, state: Shared) -> None:
    """What was saved comes back, each row where it belongs."""
    assert saver.restore(state.model, state.optimizer) == position(1)
    for name, values in state.expected().items():
        assert torch.equal(piece_of(state.tensors()[name]).rows, values), name


def full(saver: Saver, state: Shared) -> None:
    """The disk of the last process that writes is full, and all learn of it."""
    if saver.world.rank == (1 if shared_out(state.model) else 0):
        checkpoint.write_parts = no_room  # type: ignore[assignment]
    saver.save(state.model, state.optimizer, position(2))
    try:
        saver.close()
    except ArtifactError as error:
        assert "No space left on device" in str(error) and "from step 1" in str(error), error
    else:
        raise AssertionError("a part was not written, and nobody says so")
    wishes = saver.world.sum(float(saver.outside.wishes.take() == Wish.SAVE))
    assert wishes == [2.0 if shared_out(state.model) else 1.0], wishes
    assert [path.name for path in saver.folder.iterdir()] == ["step-000001"]


def no_room(*_: object) -> dict[str, str]:
    """A disk that is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def killed(saver: Saver, state: Shared) -> None:
    """The second process is killed in the middle of a save, and the first does not commit."""
    if saver.world.rank == 1:
        checkpoint.write_parts = die  # type: ignore[assignment]
    saver.save(state.model, state.optimizer, position(2))
    try:
        saver.close()
    except RuntimeError:
        os.kill(os.getpid(), signal.SIGKILL)  # it has nobody to say goodbye to


def die(*_: object) -> dict[str, str]:
    """A fall."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def process(
    rank: int, size: int, shared: bool, what: Scenario, artifact: Path, meeting: str
) -> None:
    """One of `size` processes."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    saver = Saver(
        artifact / "checkpoints",
        CheckpointConfig(),
        World.current(),
        Outside(),
        RunLog(None, silent),
    )
    what(saver, Shared(shared))
    dist.barrier()
    dist.destroy_process_group()


def together(size: int, shared: bool, what: Scenario, artifact: Path) -> set[int]:
    """Run a scenario in so many processes; their exit codes, negative for a signal."""
    children, meeting = [], f"{artifact}/meeting-{time.time_ns()}"
    for rank in range(size):
        if (child := os.fork()) == 0:
            signal.alarm(600)  # nobody outlives a test that was broken off
            process(rank, size, shared, what, artifact, meeting)
            os._exit(0)
        children.append(child)
    return {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}


def main(artifact: Path) -> None:
    """All scenarios, one after the other, in one folder."""
    assert together(3, True, save, artifact) == {0}
    for size, shared in ((2, True), (2, False), (3, True)):
        assert together(size, shared, load, artifact) == {0}
    for shared in (True, False):
        assert together(2, shared, full, artifact) == {0}
    assert together(2, True, killed, artifact) == {-signal.SIGKILL}
    assert together(2, True, load, artifact) == {0}
    assert not list((artifact / "checkpoints").glob(".step-*"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
