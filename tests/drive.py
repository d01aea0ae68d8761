"""A driver that can be killed: trains a task on Ray in a process of its own.

    python -m tests.drive TASK.json FOLDER {"workers": 2}

Every event comes out as one line of JSON. `pace`: seconds between two steps. `before`: a command
that starts it elsewhere.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class Driver:
    """A driver, seen from outside."""

    def __init__(
        self,
        task: Path,
        folder: Path,
        environment: dict[str, str],
        before: Sequence[str] = (),
        **cluster: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [
                *before,
                sys.executable,
                "-m",
                "tests.drive",
                str(task),
                str(folder),
                json.dumps(cluster),
            ],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def events(self) -> Iterator[dict[str, Any]]:
        """What it tells until it ends."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("{"):
                yield json.loads(line)

    def wait(self) -> int:
        """Its exit code."""
        for _ in self.events():
            pass
        return self.process.wait()


def drive(task_file: Path, folder: Path, cluster: dict[str, Any]) -> None:
    """Train, and tell."""
    from cluster import workers
    from cluster.config import ClusterConfig
    from cluster.session import session
    from llm.task import read_task
    from tests.faults import learn_paced, pretrain_by

    workers.RESIZE_AFTER_S = 1.0
    count, pace = cluster.pop("workers", 2), cluster.pop("pace", 0.0)
    count = tuple(count) if isinstance(count, list) else count
    config = ClusterConfig(workers=count, **{"cpus_per_worker": 1, **cluster})
    task = replace(read_task(task_file), folder=str(folder))
    with session(config):
        loop = partial(learn_paced, pace)
        pretrain_by(loop, task, config, lambda event: print(json.dumps(event), flush=True))


if __name__ == "__main__":
    from llm.errors import UserError

    try:
        drive(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
