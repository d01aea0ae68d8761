"""Writing answers against transformers' generate: the same weights, in turns, tokens a second.

Prompts of 16 to 64 tokens, 48 tokens written behind each, drawn at temperature 1; ours gives their
log-probabilities, too. Both in bf16. First both write greedily in fp32: the same text up to ties,
which proves that they do the same work. With OMP_NUM_THREADS=1 seconds are the processor's, which
other programs hardly disturb; otherwise those of the clock, on all cores.
"""

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from llm.config import ModelConfig
from llm.model import Transformer
from llm.rollout import write_answers
from llm.writer import Writer
from tests.bench._peer import Peer

ROUNDS = 2
TOKENS = 48
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
SHAPES = {
    "10M": ({"depth": 6, "width": 320, "heads": 5, "hidden": 896}, 8192),
    "97M": ({"depth": 12, "width": 768, "heads": 12, "hidden": 2048}, 16000),
}
BATCHES = (1, 16, 64)
CLOCK = time.process_time if THREADS == 1 else time.perf_counter


def main() -> None:
    """Print a table of tokens a second."""
    torch.set_num_threads(THREADS)
    table = Table(title=f"answers of {TOKENS} tokens, bf16, {THREADS} threads, best of {ROUNDS}")
    for column in ("model", "batch", "ours", "transformers", "times", "same greedy text"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, (shape, vocabulary) in SHAPES.items():
        try:
            for row in compare(shape, vocabulary):
                table.add_row(name, *row)
        except OSError as error:
            print(f"no comparison: transformers cannot be run: {error}")
            return
    Console().print(table)


def compare(shape: dict[str, int], vocabulary: int) -> list[tuple[str, ...]]:
    """Rows of the table for one model."""
    torch.manual_seed(0)
    config = ModelConfig(**shape, context=128)
    model = Transformer(config, vocabulary).eval()
    with tempfile.TemporaryDirectory(prefix="humpty-bench-") as folder:
        weights = Path(folder) / "llama.safetensors"
        save_file(llama_state(model), weights)
        peer = Peer("_generate.py")
        task = {"config": llama_config(config, vocabulary), "weights": str(weights)}
        theirs = peer.ask(task | {"threads": THREADS})["parameters"]
        assert theirs == sum(p.numel() for p in model.parameters())
    same = agreement(model, peer)
    writer = Writer(model, "bf16")
    rows = [(str(batch), *measure(writer, peer, batch), same) for batch in BATCHES]
    peer.close()
    return rows


def measure(writer: Writer, peer: Peer, batch: int) -> tuple[str, str, str]:
    """Tokens a second of ours and theirs, in turns, and the ratio."""
    prompts = make_prompts(batch, writer.model.vocab_size)
    question = {"prompts": prompts, "tokens": TOKENS, "dtype": "bf16", "sample": True}
    ours, theirs = [], []
    for _ in range(ROUNDS):
        start = CLOCK()
        write(writer, prompts, 1.0)
        ours.append(CLOCK() - start)
        theirs.append(peer.ask(question)["seconds"])
    rates = [batch * TOKENS / min(seconds) for seconds in (ours, theirs)]
    return f"{rates[0]:,.0f}", f"{rates[1]:,.0f}", f"{rates[0] / rates[1]:.2f}"


def agreement(model: Transformer, peer: Peer) -> str:
    """Share of answers that both write alike in fp32, without chance."""
    prompts = make_prompts(16, model.vocab_size)
    question = {"prompts": prompts, "tokens": 16, "dtype": "fp32", "sample": False}
    theirs = peer.ask(question)["ids"]
    ours = write(Writer(model, "fp32"), prompts, 0.0, tokens=16)
    return f"{sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours):.0%}"


def write(
    writer: Writer, prompts: list[list[int]], temperature: float, tokens: int = TOKENS
) -> list[list[int]]:
    """Answers of exactly so many tokens: the end is never written."""
    answers = write_answers(
        writer,
        prompts,
        max_tokens=tokens,
        end=1,
        never=[1] if temperature else [],
        temperature=temperature,
        keys=[(0, row) for row in range(len(prompts))],
    )
    return [row[len(p) :][:tokens].tolist() for row, p in zip(answers.ids, prompts, strict=True)]


def make_prompts(count: int, vocabulary: int) -> list[list[int]]:
    """Token ids without meaning."""
    draw = random.Random(count)
    return [
        [draw.randrange(2, vocabulary) for _ in range(draw.randint(16, 64))] for _ in range(count)
    ]


def llama_config(config: ModelConfig, vocabulary: int) -> dict[str, Any]:
    """The same shape as transformers names it."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.context,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }


def llama_state(model: Transformer) -> dict[str, torch.Tensor]:
    """The same weights as transformers names them."""
    state = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": model.norm.weight,
    }
    for index, block in enumerate(model.blocks):
        at = f"model.layers.{index}"
        query, key, value = block.attention.qkv.weight.chunk(3)
        state |= {
            f"{at}.self_attn.q_proj.weight": query,
            f"{at}.self_attn.k_proj.weight": key,
            f"{at}.self_attn.v_proj.weight": value,
            f"{at}.self_attn.o_proj.weight": block.attention.out.weight,
            f"{at}.mlp.gate_proj.weight": block.mlp.gate.weight,
            f"{at}.mlp.up_proj.weight": block.mlp.up.weight,
            f"{at}.mlp.down_proj.weight": block.mlp.out.weight,
            f"{at}.input_layernorm.weight": block.attention_norm.weight,
            f"{at}.post_attention_layernorm.weight": block.mlp_norm.weight,
        }
    return {name: tensor.detach().contiguous().clone() for name, tensor in state.items()}


if __name__ == "__main__":
    main()
