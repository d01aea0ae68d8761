"""Trainings in a few processes of torchrun that share one model in a given way.

`torchrun -m tests.sharing TASK.json FOLDER STOP --strategy fsdp` pretrains as `llm.pretrain` does,
asks itself to stop before STOP (0: never), and notes how many bytes each process holds.
"""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from llm.allocator import MEMORY
from llm.alone import train_alone
from llm.metrics import Event
from llm.outside import Outside, Strategy, Wish
from llm.pretrain import pretraining
from llm.task import PretrainTask, read_task
from llm.train import Training

ROOT = Path(__file__).parent.parent


def together(module: str, *arguments: object, strategy: Strategy, nodes: int = 1) -> int:
    """Run a module's command line in two processes of each node; the highest exit code."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    given = ["-m", module, *map(str, arguments), "--strategy", strategy]
    environment = {**os.environ, **MEMORY, "OMP_NUM_THREADS": "1"}
    meeting = f"--nnodes={nodes} --master-addr=127.0.0.1 --master-port={free_port()}".split()
    started = [
        subprocess.Popen(
            [*torchrun, *meeting, f"--node-rank={node}", *given], cwd=ROOT, env=environment
        )
        for node in range(nodes)
    ]
    return max(abs(one.wait(timeout=300)) for one in started)


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def held(training: Training) -> int:
    """Bytes of weights and optimizer state in this process."""
    state = [value for slots in training.optimizer.state.values() for value in slots.values()]
    tensors = [*training.model.parameters(), *state]
    return sum(own(tensor).nbytes for tensor in tensors)


def own(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def pretrain(task: PretrainTask, outside: Outside) -> None:
    """Train until the step before `stop`, or to the end."""

    def watch(event: Event) -> None:
        if event["event"] == "step" and event["step"] == stop - 1:
            outside.wishes.ask(Wish.STOP)

    run, _ = pretraining(task, replace(outside, emit=watch))
    run.run()
    path = Path(task.folder) / f"held-{run.world.rank}.json"
    path.write_text(json.dumps(held(run.training)))


if __name__ == "__main__":
    stop = int(sys.argv.pop(3))
    train_alone(read_task, pretrain, lambda _: None)
