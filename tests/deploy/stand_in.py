"""An engine without a model, for tests of what lies around engines.

`stand_in.json` in the model's folder says how it behaves:
    answer    text of every answer; one token a word
    pace      seconds a token
    load      seconds that loading takes
    broken    loading raises this
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, NamedTuple

from deploy.config import EngineConfig
from deploy.protocol import Begun, Ended, Event, Job, Piece


class Load(NamedTuple):
    running: int
    waiting: int
    usage: float


class StandIn:
    def __init__(self, folder: Path, id: str, config: EngineConfig, *, threads: int) -> None:
        self.set: dict[str, Any] = json.loads((folder / "stand_in.json").read_text())
        time.sleep(self.set.get("load", 0))
        if broken := self.set.get("broken"):
            raise ValueError(broken)
        self.slots = asyncio.Semaphore(config.slots)
        self.count = config.slots
        self.running = self.waiting = 0
        self.healthy = True

    @property
    def load(self) -> Load:
        return Load(self.running, self.waiting, self.running / self.count)

    async def start(self) -> None: ...

    async def stop(self, drain: float) -> None:
        self.healthy = False

    async def generate(self, job: Job) -> AsyncGenerator[Event, None]:
        assert self.healthy, "used after its end"
        self.waiting += 1
        try:
            await self.slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield Begun(prompt_tokens=3)
            words = self.set.get("answer", "all the king's horses").split()
            count = job.sampling.max_tokens or len(words)
            for n in range(count):
                await asyncio.sleep(self.set.get("pace", 0.0))
                yield Piece(0, f"{words[n % len(words)]} ", 1)
            yield Ended(0, "length")
        finally:
            self.running -= 1
            self.slots.release()


def write_stand_in(folder: Path, **settings: Any) -> Path:
    """A folder that looks like a chat model's."""
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"model": {"context": 4096}, "vocab_size": 300}))
    (folder / "chat_template.jinja").write_text("")
    (folder / "stand_in.json").write_text(json.dumps(settings))
    return folder
