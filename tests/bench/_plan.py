"""Trains one task and tells what it took: `python -m tests.bench._plan TASK.json FOLDER`.

Seconds between steps, of the computing thread alone on a CPU, since other work shares the cores;
the parameters; the process's (or the GPU's) memory at its peak.
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch

from llm.metrics import Event
from tests.tasks import run_plain

CUDA = torch.cuda.is_available()


def main(task: Path, folder: Path) -> None:
    """Train, and print a line of JSON."""
    moments: list[float] = []
    counted: list[int] = []

    def watch(event: Event) -> None:
        if event["event"] == "start":
            counted.append(event["parameters"])
        elif event["event"] == "step":
            moments.append(time.perf_counter() if CUDA else time.thread_time())

    run_plain(task, folder, watch)
    steps = [after - before for before, after in pairwise(moments)]
    print(json.dumps({"parameters": counted[0], "seconds": steps, "bytes": peak()}))


def peak() -> int:
    """Bytes."""
    if CUDA:
        there, total = torch.cuda.mem_get_info()
        return total - there  # the allocator gives nothing back
    # Not getrusage's ru_maxrss: a child begins with that of the process which started it.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
