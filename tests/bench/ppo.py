"""A step of PPO against TRL's, in turns: seconds, and what they are spent on.

10M parameters each: policy, reference, reward model and critic. 32 prompts of 16 to 64 tokens are
answered by 64 tokens each; four passes in minibatches of 8, bf16. Weights are
random, so hardly an answer ends early. TRL's gradients are accumulated over the whole batch, by its
design, so it calls its optimizer 4 times a step and ours does 16 times.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench._peer import Peer

ROUNDS = 1
SHAPE = {"depth": 6, "width": 320, "heads": 5, "hidden": 896, "context": 128}
VOCABULARY = 8192
BATCH = {"batch": 32, "minibatch": 8, "micro_batch": 8, "epochs": 4, "answer_tokens": 64}
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
PHASES = ("rollout", "logprobs", "reward", "update")


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
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, float]] = []

    def after(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            ours.append(event)
            if peer:
                theirs.append(peer.ask({"step": event["step"]}))

    with tempfile.TemporaryDirectory(prefix="humpty-bench-") as folder:
        PpoRun(make_task(Path(folder), prompts), after).run()
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


@dataclass(frozen=True)
class Share:
    """Seconds of a phase, and of the step."""

    seconds: float
    whole: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} ({self.seconds / self.whole:.0%})"


def report(ours: list[dict[str, Any]], theirs: list[dict[str, float]]) -> None:
    """Print the median step of both."""
    title = f"a step of PPO, 10M, {THREADS} threads, seconds, median of {ROUNDS}"
    table = Table(title=title)
    for column in ("", "a step", *PHASES, "times"):
        table.add_column(column, justify="left" if not column else "right")
    mine = statistics.median(step["seconds"] for step in ours)
    phases = [statistics.median(step["phases"][name] for step in ours) for name in PHASES]
    shares = [str(Share(seconds, mine)) for seconds in phases]
    if not theirs:
        table.add_row("ours", f"{mine:.2f}", *shares)
    else:
        whole = statistics.median(step["seconds"] for step in theirs)
        rollout = statistics.median(step["rollout"] for step in theirs)
        table.add_row("ours", f"{mine:.2f}", *shares, f"{whole / mine:.2f}")
        table.add_row("TRL", f"{whole:.2f}", str(Share(rollout, whole)), "", "", "", "1.00")
    Console().print(table)


if __name__ == "__main__":
    compare()
