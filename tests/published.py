"""Trainings that others have published, with what they took, for formulas to be held against.

torchtitan: benchmarks/llama3_h100_202412_torchtitan.md and docs/performance.md (the first edition)
of pytorch/torchtitan; its H100s had 96 GB at 2.4 TB/s and 500 W, its memory is what the allocator
reserved. nanochat: run1000.sh, dev/LEADERBOARD.md (run 1) and reports of `speedrun.sh` of
karpathy/nanochat (d20: nine of 170 to 176 minutes). Its d26 is published in fp8 only. llm.c:
scripts/run_gpt2_124M.sh and run_gpt2_1558M.sh of karpathy/llm.c.

Our models have as many keys as queries. Llama's grouped ones are made up for by fewer hidden
features, so that parameters and FLOPs are Llama's.
"""

from dataclasses import dataclass, replace

from llm.config import ModelConfig
from llm.gpus import GPUS, Gpu
from llm.memory import Kernels, Layout, Recompute, memory
from llm.network import traffic
from llm.seconds import compute_seconds, machine_of

H100_TITAN = replace(GPUS["h100"], name="h100 96GB", bandwidth=2.4e12, memory=95 * 2**30)


@dataclass(frozen=True, kw_only=True)
class Published:
    """One training. seconds: of a step; gib: of memory, None: not told or not comparable."""

    name: str
    model: ModelConfig
    vocab: int
    gpu: Gpu
    layout: Layout
    compiled: bool
    seconds: float
    gib: float | None = None

    @property
    def predicted_seconds(self) -> float:
        """Of a step, the network's exposed share with it."""
        machine = machine_of(self.gpu, self.compiled)
        parts = compute_seconds(self.model, self.vocab, self.layout, Kernels(), machine)
        computing = sum(parts.values())
        return computing + traffic(self.model, self.vocab, self.layout, self.gpu, computing).exposed

    @property
    def predicted_gib(self) -> float:
        """Of memory, with all logits at once, in bf16 and as log probabilities, as they had it."""
        kernels = Kernels()
        parts = memory(self.model, self.vocab, self.layout, kernels)
        logits = 6 * self.layout.micro_batch * self.model.context * self.vocab
        more = (1 + kernels.gaps) * (logits - parts["logits"])
        return (sum(parts.values()) + more) / 2**30


def llama(depth: int, width: int, hidden: int, context: int) -> ModelConfig:
    """Heads of 128, an output layer of its own."""
    heads = width // 128
    return ModelConfig(
        depth=depth, width=width, heads=heads, hidden=hidden, context=context, tied=False
    )


def nanochat(depth: int) -> ModelConfig:
    """64 of width a layer, two matrices in the MLP."""
    width = 64 * depth
    return ModelConfig(
        depth=depth,
        width=width,
        heads=width // 128,
        hidden=4 * width,
        context=2048,
        mlp="gelu",
        tied=False,
    )


def gpt2(depth: int, width: int) -> ModelConfig:
    """As its paper has it."""
    return ModelConfig(
        depth=depth,
        width=width,
        heads=width // 64,
        hidden=4 * width,
        context=1024,
        mlp="gelu",
        norm="layernorm",
        positions="learned",
        bias=True,
    )


def fsdp(workers: int, micro_batch: int, recompute: Recompute) -> Layout:
    """torchtitan's: one micro batch a step."""
    return Layout(micro_batch=micro_batch, workers=workers, shards=workers, recompute=recompute)


def ddp(micro_batch: int, rounds: int) -> Layout:
    """Eight GPUs."""
    return Layout(micro_batch=micro_batch, rounds=rounds, workers=8)


LLAMA_8B = llama(32, 4096, 12_288, 8192)
LLAMA_70B = llama(80, 8192, 23_893, 8192)
A100, H100 = GPUS["a100"], GPUS["h100"]


def titan(
    name: str,
    model: ModelConfig,
    vocab: int,
    gpu: Gpu,
    layout: Layout,
    speed: float,
    gib: float | None = None,
) -> Published:
    """speed: tokens a second of a GPU."""
    return Published(
        name=f"torchtitan {name}",
        model=model,
        vocab=vocab,
        gpu=gpu,
        layout=layout,
        compiled="compiled" in name,
        seconds=layout.micro_batch * model.context / speed,
        gib=gib,
    )


def single(
    name: str, model: ModelConfig, vocab: int, gpu: Gpu, layout: Layout, seconds: float
) -> Published:
    """One node of eight, everything fused."""
    return Published(
        name=name, model=model, vocab=vocab, gpu=gpu, layout=layout, compiled=True, seconds=seconds
    )


L2, L3 = 32_000, 128_256
PUBLISHED = (
    titan("8B, 8 H100", LLAMA_8B, L3, H100_TITAN, fsdp(8, 2, "selective"), 5762, 82.4),
    titan("8B, 8 H100, compiled", LLAMA_8B, L3, H100_TITAN, fsdp(8, 2, "selective"), 6667, 77.0),
    titan("8B, 128 H100", LLAMA_8B, L3, H100_TITAN, fsdp(128, 2, "selective"), 5605, 67.0),
    titan("8B, 128 H100, compiled", LLAMA_8B, L3, H100_TITAN, fsdp(128, 2, "selective"), 6514, 62),
    titan("8B, 64 A100", LLAMA_8B, L3, A100, fsdp(64, 1, "selective"), 2973),
    titan("13B, 64 A100", llama(40, 5120, 13_824, 4096), L2, A100, fsdp(64, 2, "none"), 2162),
    titan("70B, 64 A100", LLAMA_70B, L3, A100, fsdp(64, 1, "full"), 331),
    titan(
        "70B of Llama 2, 64 A100",
        replace(LLAMA_70B, context=4096),
        L2,
        A100,
        fsdp(64, 2, "full"),
        353,
    ),
    single("nanochat d20, 8 H100", nanochat(20), 65_536, H100, ddp(32, 1), 172.5 * 60 / 21_400),
    single("nanochat d24, 8 H100", nanochat(24), 32_768, H100, ddp(16, 2), 10_949 / 16_704),
    single("nanochat d32, 8 H100", nanochat(32), 65_536, H100, ddp(8, 4), 1.574),
    single("llm.c GPT-2 124M, 8 A100", gpt2(12, 768), 50_304, A100, ddp(64, 1), 0.300),
    single("llm.c GPT-2 1558M, 8 H100", gpt2(48, 1600), 50_304, H100, ddp(16, 8), 2.80),
)
