"""A training that is killed at random, again and again, must end as if nothing had happened.

    python -m tests.chaos --kills 20 --seed 0
    python -m tests.chaos --minutes 10

SIGKILL comes to the first worker, the second, both, the whole node they run on, a process of Ray
Data, or the driver, which is then started again by the same command. Held against an undisturbed
training with as many workers: the sha256 of the weights, every loss to the last bit, and the order
of the data, which `audit` proves. Printed: what each kill cost, the goodput, and what it would be
at one failure in three hours, which Meta had on 16,384 GPUs (Llama 3, 2024).
"""

import argparse
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from llm.audit import audit
from llm.events import read
from llm.files import sha256, write_json
from llm.metrics import Event
from llm.step_log import NAME
from llm.task import read_task
from tests.drive import Driver
from tests.machines import Machines, machines
from tests.tasks import losses, write_task

KINDS = ("rank 0", "rank 1", "both", "node", "data", "driver")

EVERY = 20
"""Steps between checkpoints."""

STEPS_PER_KILL = 30

PACE = 0.03
"""Seconds between steps, so that a kill comes near the step it is meant for."""

NODE_CPUS = 5

FAILURE_EVERY_S = 3 * 3600


@dataclass
class Kill:
    """One kill, and what came of it."""

    kind: str
    step: int
    """The last one heard of."""
    at: float
    back: float | None = None
    """When the next step was done."""

    @property
    def seconds(self) -> float:
        """From the kill to the next step."""
        assert self.back is not None
        return self.back - self.at


@dataclass
class Chaos:
    """Kills a training until `kills` or `until` is reached, then lets it end."""

    cluster: Machines
    task: Path
    folder: Path
    source: random.Random
    kinds: list[str]
    """What is to be killed, in this order."""
    kills: list[Kill] = field(default_factory=list)

    def run(self) -> list[Kill]:
        """The kills, when the training has ended by itself."""
        self.node = self.cluster.add(NODE_CPUS)
        while True:
            driver = self._driver()
            killed = self._watch(driver)
            code = driver.process.wait()
            if not killed:
                assert code == 0, f"the driver ended with {code}"
                return self.kills

    def _driver(self) -> Driver:
        return Driver(self.task, self.folder, self.cluster.environment, workers=2, max_failures=100)

    def _watch(self, driver: Driver) -> bool:
        """Attend to a driver; whether it was killed."""
        first = due = 0
        for event in driver.events():
            if event["event"] == "start":
                first, due = event["pid"], event["step"] + self.source.randint(1, 2 * EVERY)
            if event["event"] != "step":
                continue
            if self.kills and self.kills[-1].back is None:
                self.kills[-1].back = time.time()
            if first and event["step"] >= due and len(self.kills) < len(self.kinds):
                kind = self.kinds[len(self.kills)]
                self.kills.append(Kill(kind, event["step"], time.time()))
                if kind == "driver":
                    driver.process.kill()
                    return True
                self._kill(kind, first)
                due = event["step"] + self.source.randint(1, 2 * EVERY)
                first = first if kind == "data" else 0
        return False

    def _kill(self, kind: str, first: int) -> None:
        """Kill one part of the cluster; `first` is the process of rank 0."""
        workers = self.cluster.processes("ray::RayTrainWorker")
        match kind:
            case "node":
                self.cluster.kill(self.node)
                self.node = self.cluster.add(NODE_CPUS)
                return
            case "rank 0":
                victims = [first]
            case "rank 1":
                victims = [pid for pid in workers if pid != first]
            case "both":
                victims = workers
            case _:
                victims = [self._data_worker(workers)]
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _data_worker(self, workers: list[int]) -> int:
        """A process of Ray Data, one that works if there is any."""
        pool = [pid for pid in self.cluster.processes("ray::") if pid not in workers]
        busy = [pid for pid in self.cluster.processes("ray::MapBatches") if pid in pool]
        idle = [pid for pid in self.cluster.processes("ray::IDLE") if pid in pool]
        return self.source.choice(busy or idle or pool)


def choose(kills: int, source: random.Random) -> list[str]:
    """Kinds in random order, each about as often."""
    kinds = [KINDS[number % len(KINDS)] for number in range(kills)]
    source.shuffle(kinds)
    return kinds


@dataclass(frozen=True)
class Outcome:
    """A disturbed training beside an undisturbed one."""

    undisturbed: Path
    disturbed: Path
    kills: list[Kill]
    seconds: float
    """That the disturbed one took."""

    def require_equal(self) -> None:
        """That nothing of all that has left a trace in the model, the losses and the data."""
        one, two = self.undisturbed, self.disturbed
        assert (one / NAME).read_bytes() == (two / NAME).read_bytes(), "other data"
        assert losses(one) == losses(two), "other losses"
        assert digest(one) == digest(two), "other weights"
        audit(two, lambda _: None)

    def require_few_redone(self, slack: int) -> None:
        """That no fall cost more than an interval, and what was trained while it was saved."""
        for event in self.begins:
            redone = event["reached"] - event["step"]
            assert redone <= EVERY + slack, f"{redone} steps redone after step {event['step']}"

    @property
    def begins(self) -> list[Event]:
        """Of every attempt."""
        return [event for event in read(self.disturbed) if event["event"] == "begin"]

    @property
    def lost(self) -> float:
        """Seconds from the last step before a fall until it is reached again, altogether."""
        return sum(event["lost"] for event in read(self.disturbed) if event["event"] == "again")

    @property
    def lost_per_fall(self) -> float:
        """Seconds."""
        return self.lost / max(1, len(self.begins) - 1)

    @property
    def goodput_at_scale(self) -> float:
        """Share of time that is not lost, at one failure in three hours."""
        return 1 - self.lost_per_fall / FAILURE_EVERY_S

    def lines(self) -> Iterator[str]:
        """For people."""
        for kill in self.kills:
            yield f"{kill.kind:8} killed at step {kill.step:5}, back after {kill.seconds:5.1f} s"
        redone = sum(event["reached"] - event["step"] for event in self.begins)
        yield (
            f"{len(self.kills)} kills, {len(self.begins) - 1} falls in {self.seconds:.0f} s: "
            f"{redone} steps redone, {self.lost:.0f} s lost, "
            f"goodput {1 - self.lost / self.seconds:.1%}"
        )
        yield (
            f"at {self.lost_per_fall:.1f} s a fall and one fall in 3 hours: "
            f"goodput {self.goodput_at_scale:.2%}"
        )


def digest(folder: Path) -> str:
    """Of the finished model's weights."""
    return sha256(folder / "model.safetensors")


def chaos(folder: Path, kinds: list[str], seed: int, steps: int) -> Outcome:
    """An undisturbed and a disturbed training on a cluster of their own."""
    task = write_task(folder, steps=steps, save_every=EVERY, log_every=1, validate_every=steps)
    runs = folder / "undisturbed", folder / "disturbed"
    with machines() as cluster:
        for run in runs:
            run.mkdir()
            write_json(run / "task.json", replace(read_task(task), folder=str(run)).to_json())
        quiet = cluster.add(NODE_CPUS)
        driver = Driver(task, runs[0], cluster.environment)
        assert driver.wait() == 0
        cluster.kill(quiet)
        start = time.time()
        kills = Chaos(cluster, task, runs[1], random.Random(seed), kinds).run()
        return Outcome(*runs, kills, time.time() - start)


def main() -> None:
    """The long ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--minutes", type=float, help="as many kills as fit, at 17 s each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kills = int(options.minutes * 60 / 17) if options.minutes else options.kills
    kinds = choose(kills, random.Random(options.seed))
    with tempfile.TemporaryDirectory(prefix="chaos", ignore_cleanup_errors=True) as folder:
        outcome = chaos(Path(folder), kinds, options.seed, STEPS_PER_KILL * (kills + 1))
        for line in outcome.lines():
            print(line)
        outcome.require_equal()
        print("weights, losses and order of the data are those of the undisturbed training")


if __name__ == "__main__":
    main()
