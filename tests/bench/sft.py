"""Instruction tuning against TRL's, in turns: tokens of conversations a second.

14M parameters, conversations of 20 to 400 tokens of which the second half is the answer, context
512, bf16, 8 rows per update. Ours packs them into rows in which they do not see each other; TRL
pads them, or packs them. Padding does not count. With OMP_NUM_THREADS=1 seconds are the
processor's, which other programs hardly disturb; otherwise those of the clock, on all cores.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from llm.outside import Outside
from tests.bench._peer import Peer

ROUNDS = 3
STEPS = 2
"""Of ours in each round."""

SHAPE = {"depth": 6, "width": 384, "heads": 6, "hidden": 1024, "context": 512}
VOCABULARY = 8192
CONVERSATIONS = 400
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
CLOCK = time.process_time if THREADS == 1 else time.perf_counter
MODES = ("padded", "packed")

Rates = dict[str, list[float]]


def main() -> None:
    """Compare in a process with the environment that workers have."""
    from cluster.session import WORKER_ENVIRONMENT

    environment = os.environ | WORKER_ENVIRONMENT | {"OMP_NUM_THREADS": str(THREADS)}
    subprocess.run([sys.executable, "-m", "tests.bench.sft"], check=True, env=environment)


def compare() -> None:
    """Some steps of ours, some of theirs in each mode, ROUNDS times."""
    from llm.run import Run, Setting
    from llm.sft import Sft

    lengths = [random.Random(i).randint(20, 400) for i in range(CONVERSATIONS)]
    rates: Rates = {"ours": [], **{mode: [] for mode in MODES}}
    peer = make_peer(lengths)
    started, tokens = 0.0, 0

    def after(event: dict[str, Any]) -> None:
        nonlocal started, tokens
        if event["event"] == "step" and event["step"] % STEPS == 1:
            if event["step"] > 1:
                rates["ours"].append((event["tokens"] - tokens) / (CLOCK() - started))
                ask(peer, rates)
            started, tokens = CLOCK(), event["tokens"]

    with tempfile.TemporaryDirectory(prefix="humpty-bench-") as folder:
        task = make_task(Path(folder), lengths)
        setting = Setting.current(task.config)
        Run(task, Sft(task, setting), setting, Outside(after)).run()
    if peer:
        peer.close()
    report(rates)


def ask(peer: Peer | None, rates: Rates) -> None:
    """A few steps of theirs in each mode."""
    for mode in MODES if peer else ():
        assert peer
        found = peer.ask({"mode": mode})
        rates[mode].append(found["tokens"] / found["seconds"])


def make_peer(lengths: list[int]) -> Peer | None:
    """TRL with the same shape and lengths, or nothing and why."""
    from llm.config import ModelConfig
    from tests.bench.rollout import llama_config

    draw = random.Random(0)
    ids = [[draw.randrange(16, VOCABULARY) for _ in range(length)] for length in lengths]
    masks = [[0] * (length // 2) + [1] * (length - length // 2) for length in lengths]
    config = llama_config(ModelConfig(**SHAPE), VOCABULARY)
    task = {"config": config, "ids": ids, "masks": masks, "context": SHAPE["context"]}
    try:
        peer = Peer("_sft.py", {"OMP_NUM_THREADS": str(THREADS)})
        peer.ask(task | {"threads": THREADS})
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no comparison: TRL cannot be run: {error}")
        return None
    return peer


def make_task(folder: Path, lengths: list[int]) -> Any:
    """The task of ROUNDS x STEPS + 1 steps, and all that it names."""
    from llm.align_config import ChatDataConfig, SftConfig
    from llm.align_task import AlignTask, loop_of
    from llm.config import CheckpointConfig, ModelConfig, OptimConfig
    from llm.examples import CHAT, INDEX
    from llm.files import write_json
    from llm.ragged import write_rows
    from tests.bench.ppo import write_models

    write_models(folder, ModelConfig(**SHAPE))
    for name in ("examples", "run"):
        (folder / name).mkdir()
    write_rows(folder / "examples/train-00000.safetensors", CHAT, map(conversation, lengths))
    write_json(folder / "examples" / INDEX, {"train": len(lengths), "validation": 0})
    steps, batch = ROUNDS * STEPS + 1, 8
    config = SftConfig(
        data=(ChatDataConfig(shards=("unused",)),),
        epochs=1,
        batch=batch,
        micro_batch=2,
        precision="bf16",
        validate_every=steps,
        log_every=1,
        optim=OptimConfig(lr=1e-4, warmup=1),
        checkpoint=CheckpointConfig(every=steps),
    )
    return AlignTask(
        kind="sft",
        folder=str(folder / "run"),
        start=str(folder / "policy"),
        examples=str(folder / "examples"),
        config=config,
        train=loop_of(config, steps * batch),
        seed=0,
    )


def conversation(length: int) -> dict[str, np.ndarray]:
    """Token ids without meaning behind a separator; the second half is the answer."""
    from llm.tokenizer import BOS, RESERVED

    ids = np.random.default_rng(length).integers(16, VOCABULARY, length)
    ids[0] = RESERVED.index(BOS)
    return {"ids": ids, "weights": (np.arange(length) >= length // 2).astype(np.float32)}


def report(rates: Rates) -> None:
    """Print the best rates, and how many times theirs ours is."""
    table = Table(title=f"instruction tuning, 14M, {THREADS} threads, best of {ROUNDS}")
    for column in ("", "useful tokens/s", "ours in times"):
        table.add_column(column, justify="left" if not column else "right")
    best = {name: max(found) for name, found in rates.items() if found}
    for name, rate in best.items():
        label = name if name == "ours" else f"TRL, {name}"
        table.add_row(label, f"{rate:,.0f}", f"{best['ours'] / rate:.2f}")
    Console().print(table)


if __name__ == "__main__":
    compare()
