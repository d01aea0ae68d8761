"""One stage of a rehearsal that is to fall: its own storage, and `python -m jobs run` as a process.

What the stage builds on is copied from the undisturbed run, so only the stage itself is done again.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jobs.rehearse_cluster import ROOT
from jobs.rehearse_toy import NAME
from llm import events
from llm.metrics import Event, read_log
from llm.pulse import last_pulse

PATIENCE = 600.0
"""Seconds until a run that has not come to an end counts as stuck."""

SOON = 0.002
"""Seconds between looks at a training's pulse; steps of a toy take some ten milliseconds."""


class Broken(Exception):
    """Why a rehearsal did not hold."""


class Skipped(Exception):
    """Why a fall cannot be rehearsed here."""


@dataclass
class Trial:
    """One run of a spec in a storage of its own."""

    folder: Path
    spec: Path
    environment: dict[str, str]
    stage: str = ""
    """What is looked at."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def storage(self) -> Path:
        """Where it puts its artifacts."""
        return self.folder / "runs"

    @property
    def run(self) -> Path:
        """The folder of all stages."""
        return self.storage / NAME

    @property
    def made(self) -> Path:
        """The artifact of the stage; before there is one, where none will be."""
        found = [one for one in (self.run / self.stage).glob("*") if not one.name.startswith(".")]
        assert len(found) <= 1, f"{found}: a rehearsal makes one artifact of a stage"
        return found[0] if found else self.run / self.stage / "none"

    @property
    def log(self) -> Path:
        """What the run said."""
        return self.folder / "run.log"

    def build_on(self, whole: "Trial") -> None:
        """Take over what another run has made of all other stages."""
        for folder in whole.run.iterdir():
            if folder.is_dir() and folder.name != self.stage:
                shutil.copytree(folder, self.run / folder.name)

    def start(self) -> None:
        """Begin, or go on."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobs", "run", str(self.spec), f"storage={self.storage}"],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """The driver is gone at once."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def ends(self) -> int:
        """Wait for the run; its exit code."""
        assert self.process
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Broken(f"stuck: no end after {PATIENCE:.0f} s") from None

    def ends_well(self) -> None:
        """Wait for the run, which must succeed."""
        if code := self.ends():
            raise Broken(f"ended with exit code {code}: {self.last_words}")

    def until(self, arrived: Callable[[], bool], what: str, every: float) -> None:
        """Wait for something that happens while it runs."""
        assert self.process
        deadline = time.monotonic() + PATIENCE
        while not arrived():
            if self.process.poll() is not None:
                code = self.process.returncode
                if code:
                    raise Broken(f"ended with exit code {code} before {what}: {self.last_words}")
                raise Skipped(f"it was over before {what}")
            if time.monotonic() > deadline:
                self.kill()
                raise Broken(f"stuck: {PATIENCE:.0f} s before {what}")
            time.sleep(every)

    def until_step(self, step: int) -> None:
        """Wait until so many steps are done."""
        self.until(lambda: self.step >= step, f"step {step}", SOON)

    @property
    def step(self) -> int:
        """How far the training has come; 0 before it begins."""
        pulse = last_pulse(self.made)
        return pulse[0] if pulse else 0

    @property
    def last_words(self) -> str:
        """The last line that the run said."""
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "nothing was said")

    @property
    def events(self) -> list[Event]:
        """What befell the training."""
        return events.read(self.made)

    @property
    def logged(self) -> list[Event]:
        """What the training logged, every step once."""
        return read_log(self.made / "metrics.jsonl")
