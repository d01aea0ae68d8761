"""log.jsonl of a run: everything that befalls it, one JSON object a line, for machines to read.

Beside what the event holds, each line has `at` (unix seconds), `level`, `run`, `stage`, `artifact`,
and, where it is one process's word, `rank`. metrics.jsonl of an artifact is its course without
repetitions; this is the course as it was, over all stages and attempts.
"""

import json
import os
import time
from pathlib import Path

from llm.metrics import Event

NAME = "log.jsonl"

WARNINGS = (
    "guard",
    "fault",
    "fall",
    "damaged",
    "mirror_failed",
    "not_compiled",
    "waiting",
    "message",
)
FROM_FIRST = ("start", "step", "validation", "sample", "checkpoint", "end")
"""Events that the first process tells of all."""


class RunLog:
    """Appends what happens in one stage."""

    def __init__(self, folder: Path, run: str, stage: str, artifact: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.where = {"run": run, "stage": stage, "artifact": artifact}
        # Whole lines with O_APPEND, so that several runs may write; not forced to disk.
        self.handle = os.open(folder / NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def __call__(self, event: Event) -> None:
        """Write a line."""
        kind = event["event"]
        level = "warning" if kind in WARNINGS else "info"
        line = {"at": round(time.time(), 3), "level": level, **self.where}
        if kind in FROM_FIRST:
            line["rank"] = 0
        text = json.dumps(line | event, ensure_ascii=False, default=str)
        os.write(self.handle, (text + "\n").encode())

    def close(self) -> None:
        """That was all."""
        os.close(self.handle)
