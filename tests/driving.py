"""A whole spec, from messy files to PPO, small enough that a driver may be killed in it many times.

A `Place` is a folder with the spec, its data and its runs; it starts drivers as a user would, as
`python -m jobs run`, and looks at what they leave.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from llm.events import read
from llm.files import sha256
from llm.pulse import last_pulse
from tests.tasks import sentence

ROOT = Path(__file__).parents[1]

SPEC = """\
name: tiny
seed: 7
cluster: {workers: 1, cpus_per_worker: 1}
stages:
  corpus:
    kind: corpus
    sources: {crawl: {shards: crawl.jsonl}}
    filter: {characters: {least: 80}}
  tokenizer: {kind: tokenizer, corpus: corpus, vocab_size: 300}
  pretrain:
    kind: pretrain
    corpus: corpus
    tokenizer: tokenizer
    model: {depth: 2, width: 128, context: 128}
    batch: 8
    epochs: 8
    log_every: 1
    checkpoint: {every: 8}
  sft:
    kind: sft
    from: pretrain
    data: [{shards: chats.jsonl, schema: question_answer}]
    batch: 4
    epochs: 16
    log_every: 1
    checkpoint: {every: 3}
  ppo:
    kind: ppo
    from: sft
    data: [{shards: chats.jsonl, schema: question_answer}]
    rule: rule.py:letters
    steps: 8
    batch: 8
    minibatch: 4
    micro_batch: 2
    answer_tokens: 8
    log_every: 1
    checkpoint: {every: 2}
"""

RULE = "def letters(prompt, answer, reference):\n    return answer.count('e') / 8\n"

MORE = """\
  reward:
    kind: reward
    from: sft
    data: [{shards: pairs.jsonl}]
    batch: 8
    micro_batch: 4
    log_every: 1
  dpo:
    kind: dpo
    from: sft
    data: [{shards: pairs.jsonl}]
    batch: 8
    micro_batch: 4
    log_every: 1
  generate: {kind: generate, from: dpo, prompts: The king, sampling: {max_tokens: 16}}
"""
"""The other kinds of stages."""

NOT_RESULTS = {
    "README.md",
    "manifest.json",
    "task.json",
    "metrics.jsonl",
    "events.jsonl",
    "report.html",
    "pulse",
}
"""Files of an artifact that hold times or paths."""

PASSING = {"checkpoints", ".lease", "ray", "work", "tensorboard"}
"""Folders that a stage needs while it works, or that hold times."""

PATIENCE_S = 600.0


@dataclass(frozen=True)
class Ran:
    """How a driver ended."""

    code: int
    out: str
    errors: str


@dataclass
class Place:
    """A folder with the spec, its data and its runs."""

    folder: Path
    cluster: str | None = None
    """Address of the one that drivers use; None: each starts its own."""
    finished: dict[Path, int] = field(default_factory=dict)
    """Manifests that there were when a later driver was started, and when they were written."""

    def write(self, spec: str = SPEC) -> "Place":
        """Make up the data."""
        source = random.Random(3)
        texts = [{"text": " ".join(sentence(source) for _ in range(30))} for _ in range(120)]
        chats = [
            {"question": f"{sentence(source)} {number}", "answer": sentence(source)}
            for number in range(40)
        ]
        pairs = [
            {"prompt": chat["question"], "chosen": chat["answer"], "rejected": "men men"}
            for chat in chats
        ]
        self.folder.mkdir()
        for name, rows in (("crawl", texts), ("chats", chats), ("pairs", pairs)):
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (self.folder / f"{name}.jsonl").write_text(lines)
        (self.folder / "rule.py").write_text(RULE)
        (self.folder / "spec.yaml").write_text(spec)
        return self

    # -- drivers --

    def start(self, name: str = "driver") -> "subprocess.Popen[bytes]":
        """A driver; what it says goes into files of this name."""
        for path in self.folder.glob("runs/tiny/*/*/manifest.json"):
            self.finished.setdefault(path, path.stat().st_mtime_ns)
        environment = {key: os.environ[key] for key in os.environ if not key.startswith("RAY_")}
        if self.cluster:
            environment |= {"RAY_ADDRESS": self.cluster, "RAY_AUTH_MODE": "token"}
        spec, storage = self.folder / "spec.yaml", f"storage={self.folder / 'runs'}"
        with (
            open(self.folder / f"{name}.out", "wb") as out,
            open(self.folder / f"{name}.err", "wb") as errors,
        ):
            return subprocess.Popen(
                [sys.executable, "-m", "jobs", "run", str(spec), storage],
                cwd=ROOT,
                stdout=out,
                stderr=errors,
                env=environment,
            )

    def end(self, driver: "subprocess.Popen[bytes]", name: str = "driver") -> Ran:
        """Wait for a driver."""
        code = driver.wait(PATIENCE_S)
        texts = ((self.folder / f"{name}.{end}").read_text() for end in ("out", "err"))
        return Ran(code, *texts)

    def kill_when(self, condition: Callable[[], bool]) -> None:
        """Start a driver and end it without a word once it has come so far."""
        driver = self.start()
        until(condition, driver)
        driver.send_signal(signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL

    def kill_within(self, stage: str, seconds: float) -> None:
        """The same, so long after it has begun with a stage; nothing if it is done by then."""
        driver, begun = self.start(), self.begun(stage)
        came(after(seconds, lambda: self.begun(stage) > begun), driver)
        driver.kill()
        driver.wait()

    # -- what is there --

    def artifact(self, stage: str) -> Path | None:
        """The one artifact of a stage."""
        found = list(self.folder.glob(f"runs/tiny/{stage}/*"))
        assert len(found) <= 1
        return found[0] if found else None

    def made(self, stage: str) -> Path:
        """The same, if the stage has begun."""
        found = self.artifact(stage)
        assert found, f"{stage} has not begun"
        return found

    @property
    def stages(self) -> list[str]:
        """Those that are finished, in the order in which they were."""
        found = self.folder.glob("runs/tiny/*/*/manifest.json")
        return [path.parts[-3] for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]

    def manifest(self, stage: str) -> dict:
        """Of a finished stage."""
        return json.loads((self.made(stage) / "manifest.json").read_text())

    def begun(self, stage: str) -> int:
        """How often a driver has begun with a stage."""
        found = self.artifact(stage)
        return len(list(found.glob(".lease/*[0-9]"))) if found else 0

    def attempts(self, stage: str) -> int:
        """How often a training has begun or gone on."""
        found = self.artifact(stage)
        return sum(event["event"] == "begin" for event in read(found)) if found else 0

    def step(self, stage: str) -> int:
        """How far a training came."""
        found = self.artifact(stage)
        pulse = last_pulse(found) if found else None
        return pulse[0] if pulse else 0

    def results(self) -> dict[str, str]:
        """Digests of all that the stages have made, by path."""
        runs = self.folder / "runs" / "tiny"
        paths = (path for path in runs.glob("*/*/**/*") if path.is_file())
        names = {path.relative_to(runs): path for path in paths}
        return {
            str(name): sha256(path)
            for name, path in names.items()
            if not (PASSING & set(name.parts) or NOT_RESULTS & {name.name} or name.name[0] == ".")
        }

    def made_again(self) -> list[Path]:
        """Manifests that were written although they were there."""
        return [path for path, at in self.finished.items() if path.stat().st_mtime_ns != at]


def until(condition: Callable[[], bool], driver: "subprocess.Popen[bytes]") -> None:
    """Wait for something while the driver runs."""
    assert came(condition, driver), f"the driver has ended, with exit code {driver.poll()}"


def came(condition: Callable[[], bool], driver: "subprocess.Popen[bytes]") -> bool:
    """Look again and again; whether it came before the driver's end."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if driver.poll() is not None:
            return False
        assert time.monotonic() < end, "the driver does not come so far"
        time.sleep(0.005)
    return True


def after(seconds: float, since: Callable[[], bool]) -> Callable[[], bool]:
    """A moment: so long after something has become true."""
    began: list[float] = []

    def reached() -> bool:
        if not began and since():
            began.append(time.monotonic())
        return bool(began) and time.monotonic() - began[0] >= seconds

    return reached
