"""Predicted against measured: parameters, memory and step time here, and what others published.

Three models are trained by the program that a worker runs, one process with one thread (or one GPU,
if there is one), and foretold by llm/memory.py and llm/seconds.py from a calibration that knows no
model: how fast products of some sizes, passes over memory and exponentials are (`_calibrate.py`),
and what a process takes that trains next to nothing. On a CPU time is that of the computing thread.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table

from llm.allocator import MEMORY
from llm.config import (
    CheckpointConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    TokenizerConfig,
    TrainConfig,
    ValidationConfig,
)
from llm.memory import Kernels, Layout, memory, processor_kernels, saved
from llm.metrics import quantity, size_of
from llm.processor import has_tiles, instructions, multiplies_bf16
from llm.seconds import Machine, compute_seconds
from llm.size import parameters
from llm.task import PretrainTask
from llm.tokenizer import RESERVED
from tests.published import PUBLISHED

CHARACTERS = 0x4E00
"""The first of 20,992: a tokenizer of characters has whatever vocabulary is wanted."""


@dataclass(frozen=True)
class Case:
    """A model, and in what portions it is trained."""

    model: ModelConfig
    characters: int
    micro_batch: int
    rounds: int = 1
    steps: int = 6

    @property
    def layout(self) -> Layout:
        """One process."""
        return Layout(micro_batch=self.micro_batch, rounds=self.rounds)


def case(
    depth: int, width: int, hidden: int, context: int, characters: int, micro: int, rounds: int = 1
) -> Case:
    """With heads of 64, or one."""
    model = ModelConfig(
        depth=depth, width=width, heads=max(1, width // 64), hidden=hidden, context=context
    )
    return Case(model, characters, micro, rounds)


TOY = case(1, 32, 64, 32, 60, 1)
ON_CPU = (
    case(3, 128, 384, 128, 4096, 8),
    case(6, 320, 896, 256, 8192, 4, 2),
    replace(case(12, 768, 2048, 256, 16_384, 4), steps=4),
)
ON_GPU = (
    case(6, 320, 896, 512, 8192, 32),
    replace(case(12, 768, 2048, 1024, 16_384, 16, 2), steps=12),
    replace(case(24, 1792, 4864, 2048, 16_384, 4, 2), steps=12),
)


@dataclass(frozen=True)
class Measured:
    """What a training took."""

    parameters: int
    seconds: float
    bytes: int


def main() -> None:
    """Measure, and print three tables."""
    console = Console()
    gpu = on_gpu()
    base, machine = train(TOY).bytes, calibrated()
    title = "GPU" if gpu else "CPU, one thread"
    table = Table(title=f"predicted / measured, {title}")
    for column in ("parameters", "predicted", "memory", "predicted", "step", "predicted"):
        table.add_column(column, justify="right")
    for one in ON_GPU if gpu else ON_CPU:
        measured = train(one)
        numbers, room, time = predicted(one, base, machine)
        table.add_row(
            f"{measured.parameters:,}",
            "exactly" if numbers == measured.parameters else f"{numbers:,}",
            size_of(measured.bytes),
            against(room, measured.bytes),
            f"{measured.seconds * 1e3:.1f} ms",
            against(time, measured.seconds),
        )
    console.print(table)
    console.print(f"calibration: {spoken(machine)}; a process without a model {size_of(base)}")
    console.print(published())


def against(foretold: float, measured: float) -> str:
    """`+4%`"""
    return f"{foretold / measured - 1:+.0%}"


def predicted(one: Case, base: int, machine: Machine) -> tuple[int, int, float]:
    """Parameters, bytes of the process or GPU, seconds of a step."""
    vocab = vocabulary(one)
    kernels = kernels_here(one.model, base)
    room = sum(memory(one.model, vocab, one.layout, kernels).values())
    if not on_gpu():
        room += saved(one.model, vocab, one.layout)
    seconds = compute_seconds(one.model, vocab, one.layout, kernels, machine)
    return sum(parameters(one.model, vocab).values()), room, sum(seconds.values())


def kernels_here(model: ModelConfig, base: int) -> Kernels:
    """Of this machine."""
    if on_gpu():
        return Kernels(process=base)
    flags = instructions()
    return processor_kernels(model, multiplies_bf16(flags), has_tiles(flags), base)


def on_gpu() -> bool:
    """Whether there is one, as workers see it."""
    import torch

    return torch.cuda.is_available()


def vocabulary(one: Case) -> int:
    """Tokens: the characters and those that are reserved."""
    return one.characters + len(RESERVED)


def calibrated() -> Machine:
    """In a process of its own, with the memory allocator as it is in workers."""
    found = json.loads(run("tests.bench._calibrate"))
    return Machine(**{**found, "products": tuple(map(tuple, found["products"]))})


def train(one: Case) -> Measured:
    """Train it in a process of its own; the time is that of the fastest step."""
    with tempfile.TemporaryDirectory(prefix="humpty-bench-") as name:
        folder = Path(name)
        task = write_task(one, folder)
        told = json.loads(run("tests.bench._plan", str(task), str(folder / "run")))
    return Measured(told["parameters"], min(told["seconds"]), told["bytes"])


def run(module: str, *arguments: str) -> str:
    """The last line that a module prints."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **MEMORY, "OMP_NUM_THREADS": "1"},
    )
    return done.stdout.splitlines()[-1]


def write_task(one: Case, folder: Path) -> Path:
    """A pretraining of random characters, saved every second step."""
    from llm.tokenizer_trainer import train as train_tokenizer

    texts = list(documents(one))
    (folder / "text").mkdir()
    (folder / "text" / "0.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in texts)
    )
    tokenizer = folder / "tokenizer.model"
    config = TokenizerConfig(model="char", byte_fallback=False, coverage=1.0)
    train_tokenizer(texts, config, tokenizer, seed=0)
    task = PretrainTask(
        folder="",
        tokenizer=str(tokenizer),
        data=DataConfig(
            shards=(str(folder / "text"),), validation=ValidationConfig(fraction=0.02, tokens=2000)
        ),
        model=one.model,
        train=TrainConfig(
            tokens=1,
            steps=one.steps,
            batch=one.micro_batch * one.rounds,
            micro_batch=one.micro_batch,
            validate_every=one.steps,
            log_every=1,
            optim=OptimConfig(lr=1e-3, warmup=2),
            checkpoint=CheckpointConfig(every=2),
        ),
        prompt="",
        seed=3,
    )
    path = folder / "task.json"
    path.write_text(json.dumps(asdict(task)))
    return path


def documents(one: Case) -> Iterator[str]:
    """Every character at least once, and as many as the steps want."""
    source = Random(5)
    every = [chr(CHARACTERS + place) for place in range(one.characters)]
    wanted = one.micro_batch * one.rounds * one.model.context * one.steps * 5 // 4 + 20_000
    for _ in range(-(-wanted // one.characters)):
        source.shuffle(every)
        for start in range(0, len(every), 500):
            yield "".join(every[start : start + 500])


def spoken(machine: Machine) -> str:
    """A calibration for people."""
    rates = [speed for _, speed in machine.products]
    return (
        f"products {quantity(min(rates))} to {quantity(max(rates))}FLOP/s, "
        f"memory {size_of(machine.bandwidth)}/s, operations {machine.handing_out * 1e6:.1f} us"
    )


def published() -> Table:
    """Against what others measured."""
    table = Table(title="predicted / published")
    for column in ("training", "step", "predicted", "memory a GPU", "predicted"):
        table.add_column(column, justify="left" if column == "training" else "right")
    for one in PUBLISHED:
        room = (f"{one.gib:.1f} GiB", against(one.predicted_gib, one.gib)) if one.gib else ("", "")
        step = (f"{one.seconds:.3f} s", against(one.predicted_seconds, one.seconds))
        table.add_row(one.name, *step, *room)
    return table


if __name__ == "__main__":
    main()
