"""A step of PPO against TRL's, in turns: seconds, and what they are spent on.

10M parameters each: policy, reference, reward model and critic. 32 prompts of 16 to 64 tokens are
answered by 64 tokens each; four passes in minibatches of 8, bf16. Weights are
random, so hardly an answer ends early. TRL's gradients are accumulated over the whole batch, by its
design, so it calls its optimizer 4 times a step and ours does 16 times. With OMP_NUM_THREADS=1
seconds are the processor's, which other programs hardly disturb; otherwise those of the clock, on
all cores.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from llm.outside import Outside
from tests.bench._peer import Peer

ROUNDS = 2
SHAPE = {"depth": 6, "width": 320, "heads": 5, "hidden": 896, "context": 128}
VOCABULARY = 8192
BATCH = {"batch": 32, "minibatch": 8, "micro_batch": 8, "epochs": 4, "answer_tokens": 64}
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
CLOCK = time.process_time if THREADS == 1 else time.perf_counter
PHASES = ("rollout", "logprobs", "reward", "update")


class Step(NamedTuple):
    """How long a step took, and the share of each phase that is known."""

    seconds: float
    shares: dict[str, float]


def main() -> None:
    """Compare in a process with the environment that workers have."""
    from cluster.session import WORKER_ENVIRONMENT

    environment = os.environ | WORKER_ENVIRONMENT | {"OMP_NUM_THREADS": str(THREADS)}
    subprocess.run([sys.executable, "-m", "tests.bench.ppo"], check=True, env=environment)


def compare() -> None:
    """A step of ours, a step of theirs, ROUNDS times after one that does not count."""
    from llm.ppo_run import PpoRun

    prompts = make_prompts(BATCH["batch"])
    peer = make_peer(prompts)
    ours: list[Step] = []
    theirs: list[Step] = []
    started = 0.0

    def after(event: dict[str, Any]) -> None:
        nonlocal started
        if event["event"] == "step":
            parts = event["phases"]
            ours.append(Step(CLOCK() - started, {n: parts[n] / event["seconds"] for n in parts}))
            if peer:
                found = peer.ask({"step": event["step"]})
                share = {"rollout": found["rollout"] / found["seconds"]}
                theirs.append(Step(found["seconds"], share))
        started = CLOCK()

    with tempfile.TemporaryDirectory(prefix="humpty-bench-") as folder:
        PpoRun(make_task(Path(folder), prompts), Outside(after)).run()
    if peer:
        peer.close()
    report(ours[1:], theirs[1:])


def make_peer(prompts: list[list[int]]) -> Peer | None:
    """TRL with the same shapes, or nothing and why."""
    from llm.config import ModelConfig
    from tests.bench.rollout import llama_config

    config = llama_config(ModelConfig(**SHAPE), VOCABULARY)
    try:
        peer = Peer("_ppo.py", {"OMP_NUM_THREADS": str(THREADS)})
        peer.ask({"config": config, "prompts": prompts, "threads": THREADS, **BATCH})
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no comparison: TRL cannot be run: {error}")
        return None
    return peer


def make_prompts(count: int) -> list[list[int]]:
    """Token ids without meaning; 0 and 1 pad and end TRL's."""
    draw = random.Random(0)
    lengths = [draw.randint(16, 64) for _ in range(count)]
    return [[draw.randrange(16, VOCABULARY) for _ in range(length)] for length in lengths]


def make_task(folder: Path, prompts: list[list[int]]) -> Any:
    """The task of ROUNDS + 1 steps, and the artifacts that it names."""
    from llm.align_config import ChatDataConfig, GuardConfig, PpoConfig
    from llm.config import CheckpointConfig, ModelConfig, OptimConfig
    from llm.examples import INDEX, PROMPT
    from llm.files import write_json
    from llm.ppo_task import PpoTask
    from llm.ragged import write_rows

    write_models(folder, ModelConfig(**SHAPE))
    nothing = np.empty(0, np.uint8)
    rows = [{"ids": np.array(ids), "question": nothing, "reference": nothing} for ids in prompts]
    (folder / "prompts").mkdir()
    write_rows(folder / "prompts/train-00000.safetensors", PROMPT, rows)
    write_json(folder / "prompts" / INDEX, {"train": len(prompts), "validation": 0})
    (folder / "run").mkdir()
    steps = ROUNDS + 1
    return PpoTask(
        folder=str(folder / "run"),
        policy=str(folder / "policy"),
        reward=str(folder / "reward"),
        prompts=str(folder / "prompts"),
        comparisons="",
        config=PpoConfig(
            data=(ChatDataConfig(shards=("unused",)),),
            steps=steps,
            precision="bf16",
            validate_every=steps,
            log_every=1,
            critic_lr=1e-5,
            guards=GuardConfig(same=1.0),
            optim=OptimConfig(lr=1e-5, schedule="constant", warmup=0, weight_decay=0.0),
            checkpoint=CheckpointConfig(every=steps),
            **BATCH,
        ),
        seed=0,
    )


def write_models(folder: Path, config: Any) -> None:
    """A policy and a reward model of fresh weights."""
    import torch

    from llm.artifact import write_model, write_shape
    from llm.model import Transformer
    from llm.reward import Normaliser, Scorer, write_scorer
    from tests.ppo_tasks import write_tokenizer

    torch.manual_seed(0)
    tokenizer = write_tokenizer(folder / "tokenizer.model").path
    for name in ("policy", "reward"):
        (folder / name).mkdir()
        write_shape(folder / name, config, tokenizer, VOCABULARY)
    write_model(folder / "policy", Transformer(config, VOCABULARY))
    scorer = Scorer(Transformer(config, VOCABULARY))
    write_scorer(folder / "reward", scorer, Normaliser(0.0, 1.0))


def report(ours: list[Step], theirs: list[Step]) -> None:
    """Print the median step of both."""
    title = f"a step of PPO, 10M, {THREADS} threads, seconds, median of {ROUNDS}"
    table = Table(title=title)
    for column in ("", "a step", *PHASES, "times"):
        table.add_column(column, justify="left" if not column else "right")
    base = statistics.median(step.seconds for step in theirs or ours)
    for name, steps in (("ours", ours), ("TRL", theirs)):
        if steps:
            seconds = statistics.median(step.seconds for step in steps)
            shares = [
                f"{statistics.median(step.shares[phase] for step in steps):.0%}"
                if phase in steps[0].shares
                else ""
                for phase in PHASES
            ]
            table.add_row(name, f"{seconds:.2f}", *shares, f"{base / seconds:.2f}")
    Console().print(table)


if __name__ == "__main__":
    compare()
