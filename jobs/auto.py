"""What `auto` stands for: one plain number for each, from published rules of thumb.

Whatever goes into a fingerprint (sizes, batch, learning rate, length) is a function of the model
and its tokens alone, so the same spec gives the same result on any machine. Only the micro batch
and the cores of a worker look at the cluster.

N parameters, D tokens of training, C = 6 N D the training's FLOPs.
"""

import math
from dataclasses import replace

from cluster.config import ClusterConfig
from jobs.spec import PretrainStage, TokenizerStage
from llm.config import CheckpointConfig, ModelConfig, OptimConfig, auto
from llm.size import parameters

VOCAB_SIZE = 8192
LARGEST_MICRO_BATCH = 8


def cluster(config: ClusterConfig, cores: int) -> ClusterConfig:
    """The cores of this machine, shared out evenly."""
    if config.cpus_per_worker != auto:
        return config
    return replace(config, cpus_per_worker=max(1, cores // config.workers))


def tokenizer(stage: TokenizerStage) -> TokenizerStage:
    """A vocabulary of characters or words stays auto: it is what the text turns out to hold."""
    if stage.file is not None:
        return stage
    pieces = stage.model in ("unigram", "bpe")
    known = replace(stage, byte_fallback=pieces) if stage.byte_fallback == auto else stage
    if known.vocab_size == auto and pieces:
        return replace(known, vocab_size=VOCAB_SIZE)
    return known


def model(config: ModelConfig) -> ModelConfig:
    """64 of width for every layer, a head for every 64 of width, 8 width squared in the MLP."""
    width = 64 * config.depth if config.width == auto else config.width
    heads = max(1, width // 64) if config.heads == auto else config.heads
    hidden = config.hidden
    if hidden == auto:
        hidden = 4 * width if config.mlp == "gelu" else 64 * math.ceil(8 * width / 3 / 64)
    return replace(config, width=width, heads=heads, hidden=hidden)


def pretrain(
    stage: PretrainStage, vocab: int, workers: int, rows: int | None = None
) -> PretrainStage:
    """The training of a model with this vocabulary; the stage's model must be resolved.

    `rows` is the number of sequences of a training whose length is given in epochs.
    """
    count = sum(parameters(stage.model, vocab).values())
    if rows is not None:
        stage = with_length(stage, rows, count)
    context = stage.model.context
    batch = batch_of(stage, count) if stage.batch == auto else stage.batch
    tokens = 20 * count if stage.tokens == auto else stage.tokens
    steps = math.ceil(tokens / (batch * context)) if stage.steps == auto else stage.steps
    made = steps * batch * context
    every_tenth = math.ceil(steps / 10)
    return replace(
        stage,
        steps=steps,
        batch=batch,
        tokens=stage.tokens if auto not in (stage.tokens, stage.steps) else made,
        cache=stage.caches,
        micro_batch=micro_batch(batch, workers) if stage.micro_batch == auto else stage.micro_batch,
        validate_every=every_tenth if stage.validate_every == auto else stage.validate_every,
        checkpoint=checkpoint(stage.checkpoint, every_tenth),
        optim=optim(stage.optim, steps, count),
    )


def with_length(stage: PretrainStage, rows: int, count: int) -> PretrainStage:
    """Steps that consume so many sequences; the last batch may be filled up with padding."""
    by_tokens = replace(stage, tokens=rows * stage.model.context, steps=auto)
    batch = batch_of(by_tokens, count) if stage.batch == auto else stage.batch
    return replace(stage, batch=batch, steps=math.ceil(rows / batch), tokens=auto)


def batch_of(stage: PretrainStage, count: int) -> int:
    """Sequences of a batch: 0.292 C^0.3271 tokens (DeepSeek LLM 2024), as a power of two.

    Where steps S are given in place of tokens, D = S x batch, and the rule is solved for the batch:
    b = (0.292 (6 N S)^0.3271)^(1 / (1 - 0.3271)).
    """
    context = stage.model.context
    if stage.steps != auto and stage.tokens != auto:
        return max(1, round(stage.tokens / (stage.steps * context)))
    if stage.steps == auto:
        tokens = 20 * count if stage.tokens == auto else stage.tokens
        best = 0.292 * (6 * count * tokens) ** 0.3271
    else:
        best = (0.292 * (6 * count * stage.steps) ** 0.3271) ** (1 / (1 - 0.3271))
    return 2 ** max(0, round(math.log2(best / context)))


def micro_batch(batch: int, workers: int) -> int:
    """The largest divisor up to 8 that leaves every worker a micro batch."""
    fitting = (n for n in range(1, LARGEST_MICRO_BATCH + 1) if batch % n == 0)
    return max((n for n in fitting if batch // n >= workers), default=1)


def optim(config: OptimConfig, steps: int, count: int) -> OptimConfig:
    """Kaplan's learning rate, to three digits; warm-up takes half of a very short run at most."""
    lr = config.lr if config.lr != auto else max(1e-5, 0.003239 - 0.0001395 * math.log(count))
    warmup = min(max(10, math.ceil(steps / 50)), steps // 2)
    return replace(
        config,
        lr=lr if config.lr != auto else float(f"{lr:.2e}"),
        warmup=warmup if config.warmup == auto else config.warmup,
    )


def checkpoint(config: CheckpointConfig, every: int) -> CheckpointConfig:
    """Ten checkpoints a run."""
    return config if config.every != auto else replace(config, every=every)
