"""Training side by side with nanoGPT, litgpt and transformers: tokens a second, share of the floor.

The same shapes, batch and threads; some steps of each in turns, so that whatever else the machine
does disturbs all alike. Floor: the products of a step alone, in the same precision. Each contender
runs as it comes: ours with the allocator's settings that its workers have (llm/allocator.py), of
transformers also one that was given them; its Trainer compiles nothing in any table. With
OMP_NUM_THREADS=1 seconds are the processor's.

    HUMPTY_NANOGPT=FOLDER HUMPTY_LITGPT_PYTHON=VENV/bin/python python -m tests.bench train
    HUMPTY_TRAIN="s bf16 compiled" ... only that; words of a kind leave the others out

nanoGPT: a checkout of karpathy/nanoGPT. litgpt: a venv with `litgpt` and torch below 2.14. Trainer:
HUMPTY_TRAINER_PYTHON, a venv with `transformers`, `accelerate` and that torch. At size m all of
them together want 20 GB.
"""

import os
import statistics
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from llm.allocator import MEMORY
from tests.bench._peer import Peer

ROUNDS = 5
SIZES = {
    "xs": {"depth": 4, "width": 128, "heads": 2, "hidden": 384, "context": 256, "batch": 16},
    "s": {"depth": 6, "width": 384, "heads": 6, "hidden": 1024, "context": 256, "batch": 8},
    "m": {"depth": 12, "width": 768, "heads": 12, "hidden": 2048, "context": 512, "batch": 4},
}
"""1.1M, 13.8M and 97.5M parameters; batch: rows of a step."""
VOCABULARY = {"xs": 2048, "s": 8192, "m": 16_384}
STEPS = {"xs": 8, "s": 2, "m": 1}
"""Of a turn."""
PRECISIONS = ("fp32", "bf16")
WAYS = ("eager", "compiled")
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
OTHERS = {
    "nanogpt": "HUMPTY_NANOGPT",
    "litgpt": "HUMPTY_LITGPT_PYTHON",
    "trainer": "HUMPTY_TRAINER_PYTHON",
}
"""What each needs."""
TUNED = "transformers, our allocator"

Turns = dict[str, list[dict[str, Any]]]


def main() -> None:
    """A table for each size, precision and way; then two workers."""
    for size in chosen(tuple(SIZES)):
        for precision in chosen(PRECISIONS):
            for way in chosen(WAYS):
                compare(size, precision, way)
    if "workers" in words() or not words():
        two_workers()


def words() -> list[str]:
    """What is asked for; nothing: everything."""
    return os.environ.get("HUMPTY_TRAIN", "").split()


def chosen(kind: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a kind that are asked for, or all if none of it is."""
    if words() == ["workers"]:
        return ()
    return tuple(one for one in kind if one in words()) or kind


def contenders() -> dict[str, str]:
    """Names, and the Python of each; says who is missing."""
    found = {"ours": sys.executable, "floor": sys.executable, "transformers": sys.executable}
    found[TUNED] = sys.executable
    for name, variable in OTHERS.items():
        value = os.environ.get(variable)
        if value is None:
            print(f"no comparison with {name}: set {variable}")
        else:
            found[name] = value if variable.endswith("PYTHON") else sys.executable
    return found


def compare(size: str, precision: str, way: str) -> None:
    """Turns of all contenders, and what came of them."""
    task = {
        **SIZES[size],
        "vocabulary": VOCABULARY[size],
        "precision": precision,
        "compiled": way == "compiled",
        "threads": THREADS,
        "nanogpt": os.environ.get("HUMPTY_NANOGPT"),
    }
    peers, turns = {}, Turns()
    for name, python in contenders().items():
        peers[name] = start(name, python)
        try:
            peers[name].ask({**task, "who": name.partition(",")[0]})
        except OSError as error:
            print(f"{name} is left out: {error}")
            del peers[name]
    for _ in range(ROUNDS):
        for name, peer in peers.items():
            turns.setdefault(name, []).append(peer.ask({"steps": STEPS[size]}))
    for peer in peers.values():
        peer.close()
    tokens = STEPS[size] * task["batch"] * task["context"]
    report(f"{size}, {precision}, {way}, {THREADS} threads", tokens, turns)


def start(name: str, python: str) -> Peer:
    """A contender's process."""
    tuned = MEMORY if name in ("ours", "floor", TUNED) else {}
    environment = {"OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": os.getcwd(), **tuned}
    return Peer("_train.py", environment, python)


def report(title: str, tokens: int, turns: Turns) -> None:
    """Tokens a second, median and best; how many times theirs ours is, and shares of the floor."""
    table = Table(title=f"{title}, {ROUNDS} turns")
    for column in ("", "tokens/s", "best", "of floor", "best", "ours in times", "best", "peak MB"):
        table.add_column(column, justify="left" if not column else "right")
    seconds = {name: [turn["seconds"] for turn in found] for name, found in turns.items()}
    middle = {name: statistics.median(found) for name, found in seconds.items()}
    least = {name: min(found) for name, found in seconds.items()}
    for name in sorted(middle, key=lambda one: middle[one]):
        figures = [
            f"{tokens / middle[name]:,.0f}",
            f"{tokens / least[name]:,.0f}",
            f"{middle['floor'] / middle[name]:.2f}",
            f"{least['floor'] / least[name]:.2f}",
            f"{middle[name] / middle['ours']:.2f}",
            f"{least[name] / least['ours']:.2f}",
            f"{max(turn['peak'] for turn in turns[name]) / 1e6:,.0f}",
        ]
        table.add_row(name, *figures)
    Console().print(table)


def two_workers() -> None:
    """DDP against two ranks that do not talk, one thread each, in turns in the same processes."""
    task = {**SIZES["s"], "vocabulary": VOCABULARY["s"], "precision": "bf16", "compiled": False}
    common = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd(), "WORLD_SIZE": "2", **MEMORY}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29431", "LOCAL_WORLD_SIZE": "2"}
    ranks = [
        Peer("_train_two.py", {**common, "RANK": str(rank)}, sys.executable) for rank in (0, 1)
    ]
    turns: Turns = {"together": [], "apart": []}
    for rank in ranks:
        rank.send(task)
    for _ in range(ROUNDS):
        for way, found in turns.items():
            for rank in ranks:
                rank.send({"together": way == "together"})
            both = [rank.receive() for rank in ranks]
            found.append({kind: max(one[kind] for one in both) for kind in both[0]})
    for rank in ranks:
        rank.close()
    report_workers(turns)


def report_workers(turns: Turns) -> None:
    """What is left of the speed of two that do not talk, by the clock and by what they compute.

    Other work on the machine delays now one, now the other, and DDP waits for both: then only the
    processor's seconds tell.
    """
    table = Table(title=f"2 workers, s, bf16, 1 thread each, {ROUNDS} turns")
    for column in ("", "together", "apart", "kept", "best"):
        table.add_column(column, justify="left" if not column else "right")
    for kind in ("seconds", "processor"):
        pair = [[turn[kind] for turn in turns[way]] for way in ("together", "apart")]
        middle, least = ([pick(found) for found in pair] for pick in (statistics.median, min))
        kept = [f"{apart / together:.3f}" for together, apart in (middle, least)]
        table.add_row(kind, *(f"{one:.3f}" for one in middle), *kept)
    Console().print(table)


if __name__ == "__main__":
    main()
