"""A training without Ray: its command line, in one process or in each of torchrun's.

python -m llm.pretrain TASK.json FOLDER
torchrun --nproc-per-node 2 -m llm.pretrain TASK.json FOLDER --strategy fsdp
"""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
import torch.distributed as dist

from llm.allocator import with_kept_memory
from llm.errors import Stopped, UserError
from llm.metrics import Emit
from llm.outside import Outside, Strategy, stopping_on_sigterm
from llm.world import use_gpu

T = TypeVar("T", bound=Any)

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


def train_alone(
    read: Callable[[Path], T],
    run: Callable[[T, Outside], Any],
    show: Emit,
    strategies: Sequence[Strategy] = STRATEGIES,
) -> None:
    """Run the task that the command line names, in the folder that it names, or end with why not.

    SIGTERM saves and ends.
    """
    given = arguments(strategies)
    with_kept_memory()
    try:
        join_torchrun()
        given.folder.mkdir(parents=True, exist_ok=True)
        outside = stopping_on_sigterm(Outside(show, strategy=given.strategy))
        try:
            run(replace(read(given.task), folder=str(given.folder)), outside)
        except Stopped:  # in all processes
            leave_torchrun()
            raise
        leave_torchrun()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def arguments(strategies: Sequence[Strategy]) -> Namespace:
    """What the command line says."""
    parser = ArgumentParser()
    parser.add_argument("task", type=Path, help="task.json of an artifact")
    parser.add_argument("folder", type=Path, help="where to train, or to go on")
    parser.add_argument(
        "--strategy",
        choices=strategies,
        default="ddp",
        help="how torchrun's processes share the model",
    )
    return parser.parse_args()


def join_torchrun() -> None:
    """Become one of torchrun's processes, if it started this one."""
    if "RANK" in os.environ:
        if use_gpu():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group()


def leave_torchrun() -> None:
    """End together: gloo aborts a process that leaves while another still writes."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
