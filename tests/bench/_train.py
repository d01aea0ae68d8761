"""One contender of the training benchmark, in a process of its own; asked in turns (see train.py).

The first line of JSON says who trains what; each further line how many steps to take, and is
answered with the seconds they took. Every contender trains as its own project's script does: loss,
backward pass, clipping at 1, AdamW. Run by the Python that has its packages.
"""

import json
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

Step = Callable[[], object]


def main() -> None:
    """Set up once, then some steps a line."""
    task = json.loads(sys.stdin.readline())
    torch.set_num_threads(task["threads"])
    clock = time.process_time if task["threads"] == 1 else time.perf_counter
    torch.manual_seed(0)
    start = time.perf_counter()
    step = CONTENDERS[task["who"]](task)
    step()
    step()
    say(seconds=time.perf_counter() - start)
    for line in sys.stdin:
        start = clock()
        for _ in range(json.loads(line)["steps"]):
            step()
        seconds = clock() - start
        say(seconds=seconds, peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def say(**answer: float) -> None:
    print("\n" + json.dumps(answer), flush=True)


def ours(task: dict[str, Any]) -> Step:
    """Humpty's `fit`, asked for one more step with each call."""
    from llm.config import ModelConfig, OptimConfig, TrainConfig
    from llm.model import Transformer
    from llm.optim import make_optimizer
    from llm.outside import Wish
    from llm.passes import compile_layers
    from llm.train import Training, fit
    from llm.world import World

    shape = {name: task[name] for name in ("depth", "width", "heads", "hidden", "context")}
    model = Transformer(ModelConfig(**shape), task["vocabulary"])
    if task["compiled"]:
        compile_layers(model, parts=False)
    optim = OptimConfig(lr=6e-4, warmup=1)
    training = Training(model, make_optimizer(model, optim))
    portions = portions_of(task)

    def step() -> None:
        after = training.position.step + 1
        fit(
            training,
            portions,
            TrainConfig(steps=after, batch=task["batch"], micro_batch=task["batch"], optim=optim),
            seed=0,
            world=World.current(),
            precision=task["precision"],
            wish=lambda: Wish.NOTHING,
            allows=lambda *_: True,
            after_step=lambda _: None,
        )

    return step


def portions_of(task: dict[str, Any]) -> Iterator[Any]:
    """Rows without meaning, as the stream deals them."""
    import numpy as np

    from llm.batch import NextToken
    from llm.data import Block

    size, first = task["batch"], 0
    draw = np.random.default_rng(0)
    while True:
        ids = draw.integers(task["vocabulary"], size=(size, task["context"] + 1), dtype=np.int32)
        row = np.arange(first, first + size)
        yield NextToken(Block(ids, np.zeros(size, np.int64), row))
        first += size


def floor(task: dict[str, Any]) -> Step:
    """The products of a step and nothing else: linear maps, head and attention, there and back."""
    rows, dtype = task["batch"] * task["context"], dtype_of(task)
    width, hidden, vocabulary = task["width"], task["hidden"], task["vocabulary"]
    layer = [(width, 3 * width), (width, width), (width, 2 * hidden), (hidden, width)]
    maps = [*layer * task["depth"], (width, vocabulary)]
    weights = [torch.rand(outer, inner).to(dtype) for inner, outer in maps]
    sizes = {size for shape in maps for size in shape}
    inputs = {size: torch.rand(rows, size).to(dtype) for size in sizes}
    pairs = task["batch"] * task["heads"]
    head = torch.rand(pairs, task["context"], width // task["heads"]).to(dtype)
    scores = torch.rand(pairs, task["context"], task["context"]).to(dtype)

    def step() -> None:
        for weight in weights:
            outer, inner = weight.shape
            torch.mm(inputs[inner], weight.t())
            torch.mm(inputs[outer], weight)
            torch.mm(inputs[outer].t(), inputs[inner])
        for _ in range(task["depth"]):
            for _ in range(2):
                torch.bmm(head, head.transpose(1, 2))
                torch.bmm(scores, head)
                torch.bmm(scores.transpose(1, 2), head)

    return step


def nanogpt(task: dict[str, Any]) -> Step:
    """karpathy/nanoGPT's train.py."""
    sys.path.insert(0, task["nanogpt"])
    from model import GPT, GPTConfig

    config = GPTConfig(
        block_size=task["context"],
        vocab_size=task["vocabulary"],
        n_layer=task["depth"],
        n_head=task["heads"],
        n_embd=task["width"],
        bias=False,
    )
    model = GPT(config)
    optimizer = model.configure_optimizers(0.1, 6e-4, (0.9, 0.95), "cpu")
    return stepping(task, model, optimizer, lambda call, x, y: call(x, y)[1])


def litgpt(task: dict[str, Any]) -> Step:
    """Lightning-AI/litgpt's pretrain.py, whose head is never tied."""
    from litgpt import GPT, Config
    from litgpt.utils import chunked_cross_entropy

    config = Config(
        block_size=task["context"],
        vocab_size=task["vocabulary"],
        padded_vocab_size=task["vocabulary"],
        n_layer=task["depth"],
        n_head=task["heads"],
        n_embd=task["width"],
        intermediate_size=task["hidden"],
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
    )
    model = GPT(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1)
    return stepping(
        task, model, optimizer, lambda call, x, y: chunked_cross_entropy(call(x), y, chunk_size=0)
    )


def transformers(task: dict[str, Any]) -> Step:
    """Llama of transformers in a plain loop."""
    model = llama(task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), fused=True)
    return stepping(task, model, optimizer, lambda call, x, y: call(input_ids=x, labels=x).loss)


def llama(task: dict[str, Any]) -> Any:
    """Llama of transformers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=task["vocabulary"],
        hidden_size=task["width"],
        intermediate_size=task["hidden"],
        num_hidden_layers=task["depth"],
        num_attention_heads=task["heads"],
        max_position_embeddings=task["context"],
        tie_word_embeddings=True,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def trainer(task: dict[str, Any]) -> Step:
    """The same model in the Trainer of transformers, which lets steps pass one at a time.

    It compiles nothing unless asked to, and is not asked to.
    """
    from transformers import Trainer, TrainingArguments

    told = TrainingArguments(
        output_dir=tempfile.gettempdir(),  # where nothing is written
        max_steps=10**6,
        per_device_train_batch_size=task["batch"],
        learning_rate=6e-4,
        use_cpu=True,
        bf16=task["precision"] == "bf16",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    gate = Gate()
    rows = torch.randint(task["vocabulary"], (4096, task["context"]))
    data = [{"input_ids": row, "labels": row} for row in rows]
    inside = Trainer(llama(task), told, train_dataset=data, callbacks=[gate])
    threading.Thread(target=inside.train, daemon=True).start()
    return gate.step


class Gate:
    """A callback of Trainer that waits before each step until it is asked for."""

    def __init__(self) -> None:
        self.asked, self.taken = threading.Semaphore(0), threading.Semaphore(0)

    def step(self) -> None:
        """Let one pass."""
        self.asked.release()
        self.taken.acquire()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.asked.acquire()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.taken.release()

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Of all else nothing is wanted."""
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *_, **__: None


def stepping(
    task: dict[str, Any],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor],
) -> Step:
    """A step of a peer: one batch, one update."""
    call = torch.compile(model) if task["compiled"] else model
    batches = batches_of(task)

    def step() -> float:
        x, y = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=task["precision"] == "bf16"):
            loss = loss_of(call, x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def batches_of(task: dict[str, Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Tokens without meaning, and those that follow them."""
    while True:
        ids = torch.randint(task["vocabulary"], (task["batch"], task["context"] + 1))
        yield ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def dtype_of(task: dict[str, Any]) -> torch.dtype:
    return torch.bfloat16 if task["precision"] == "bf16" else torch.float32


CONTENDERS = {
    "ours": ours,
    "floor": floor,
    "nanogpt": nanogpt,
    "litgpt": litgpt,
    "transformers": transformers,
    "trainer": trainer,
}

if __name__ == "__main__":
    main()
