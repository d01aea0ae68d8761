"""What `auto` stands for: one plain number for each, from published rules of thumb.

Whatever goes into a fingerprint (sizes, batch, learning rate, length) is a function of the model
and its tokens alone, so the same spec gives the same result on any machine. Only the micro batch
and the cores of a worker look at the cluster.

N parameters (of a mixture of experts those that a token meets), D tokens of training, C = 6 N D the
training's FLOPs.
"""

import math
from dataclasses import replace
from typing import TypeVar

from cluster.config import ClusterConfig
from jobs.stages import (
    ExampleStage,
    PpoStage,
    PretrainStage,
    SearchStage,
    ServeStage,
    TokenizerStage,
)
from llm.config import (
    GATED,
    CheckpointConfig,
    LoopConfig,
    ModelConfig,
    OptimConfig,
    auto,
    objective_of,
)
from llm.size import active_parameters
from tune.config import ResourcesConfig

VOCAB_SIZE = 8192
LARGEST_MICRO_BATCH = 8


def cluster(config: ClusterConfig, cores: int) -> ClusterConfig:
    """The cores of this machine, shared out evenly."""
    if config.cpus_per_worker != auto:
        return config
    return replace(config, cpus_per_worker=max(1, cores // config.most_workers))


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
    """A layer has `aspect` of width, a head for every 64 of it, 8 width squared in the MLP."""
    width = config.aspect * config.depth if config.width == auto else config.width
    heads = max(1, width // 64) if config.heads == auto else config.heads
    hidden = config.hidden
    if hidden == auto:
        hidden = 64 * math.ceil(8 * width / 3 / 64) if config.mlp in GATED else 4 * width
    return replace(config, width=width, heads=heads, hidden=hidden)


def pretrain(
    stage: PretrainStage, vocab: int, workers: int, rows: int | None = None
) -> PretrainStage:
    """The training of a model with this vocabulary; the stage's model must be resolved.

    `rows` is the number of sequences of a training whose length is given in epochs.
    """
    count = active_parameters(stage.model, vocab)
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
        objective=objective_of(stage.objective, stage.model),
        steps=steps,
        batch=batch,
        tokens=stage.tokens if auto not in (stage.tokens, stage.steps) else made,
        cache=stage.caches,
        micro_batch=micro_batch(batch, workers) if stage.micro_batch == auto else stage.micro_batch,
        validate_every=every_tenth if stage.validate_every == auto else stage.validate_every,
        checkpoint=checkpoint(stage.checkpoint, every_tenth),
        optim=optim(stage.optim, steps, count, CONTINUED_LR if stage.from_ else 1.0),
    )


ALIGNED_BATCH = {"sft": 16, "reward": 16, "dpo": 16, "ppo": 64}
"""Rows, comparisons or prompts of an update."""

ALIGNED_LR = {"sft": 1 / 4, "reward": 1 / 10, "ppo": 1 / 20, "dpo": 1 / 100}
"""Peak learning rates as shares of Kaplan's rule for pretraining: for seven billion parameters
2e-5, 8e-6, 4e-6 and 8e-7, which is what is used for such models (Touvron et al. 2023; Rafailov et
al. 2023)."""

MINIBATCHES = 4
"""Of a batch of PPO."""


def aligned(stage: ExampleStage, config: ModelConfig, vocab: int, workers: int) -> ExampleStage:
    """An alignment of a model with this vocabulary. How many steps epochs make is known later."""
    count = active_parameters(config, vocab)
    batch = ALIGNED_BATCH[stage.kind] if stage.batch == auto else stage.batch
    usual = kaplan(count) * OF_KAPLAN[stage.optim.kind] * ALIGNED_LR[stage.kind]
    rate = stage.optim.lr if stage.optim.lr != auto else usual
    lr = float(f"{rate:.2e}")
    stage = replace(stage, batch=batch, optim=replace(stage.optim, lr=lr))  # type: ignore[arg-type]
    if isinstance(stage, PpoStage):
        return ppo(stage, workers)
    return with_micro_batch(stage, batch, workers)


def ppo(stage: PpoStage, workers: int) -> PpoStage:
    """Minibatches, the critic's rate, and the loop of a PPO, whose steps are given."""
    fitting = stage.batch // MINIBATCHES if stage.batch % MINIBATCHES == 0 else stage.batch
    minibatch = fitting if stage.minibatch == auto else stage.minibatch
    every_tenth = math.ceil(stage.steps / 10)
    warmup = 0 if stage.optim.warmup == auto else stage.optim.warmup
    stage = replace(
        stage,
        minibatch=minibatch,
        critic_lr=stage.optim.lr if stage.critic_lr == auto else stage.critic_lr,
        validate_every=every_tenth if stage.validate_every == auto else stage.validate_every,
        checkpoint=checkpoint(stage.checkpoint, every_tenth),
        optim=replace(stage.optim, warmup=warmup),
    )
    return with_micro_batch(stage, minibatch, workers)


BUSY = 0.75
"""Share of a replica's slots from which on another one is worth its start."""


def served(stage: ServeStage, context: int, machines: ClusterConfig) -> ServeStage:
    """Memory for as many whole contexts as there are slots; replicas as big as workers."""
    engine, scaling = stage.engine, stage.autoscaling
    tokens = engine.slots * context if engine.tokens == auto else engine.tokens
    cpus = machines.cpus_per_worker if engine.cpus == auto else engine.cpus
    target = max(1.0, BUSY * engine.slots) if scaling.target == auto else scaling.target
    return replace(
        stage,
        engine=replace(engine, tokens=tokens, cpus=cpus),
        autoscaling=replace(scaling, target=target),
    )


def searched(stage: SearchStage, machines: ClusterConfig) -> SearchStage:
    """What one trial takes: small workers, so that many trials run side by side."""
    each = stage.each
    workers = machines.most_workers if each.workers == auto else each.workers
    gpus = machines.gpus_per_worker if each.gpus_per_worker == auto else each.gpus_per_worker
    cpus = each.cpus_per_worker
    if cpus == auto:
        cpus = 1 if machines.cpus_per_worker == auto else machines.cpus_per_worker
    resources = ResourcesConfig(workers=workers, cpus_per_worker=cpus, gpus_per_worker=gpus)
    return replace(stage, each=resources)


S = TypeVar("S", bound=LoopConfig)


def with_micro_batch(stage: S, batch: int, workers: int) -> S:
    """Portions of an update, unless they are given."""
    if stage.micro_batch != auto:
        return stage
    return replace(stage, micro_batch=micro_batch(batch, workers))


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


CONTINUED_LR = ALIGNED_LR["sft"]
"""Of a model that was trained before, as a share of a fresh one's."""


def optim(config: OptimConfig, steps: int, count: int, share: float = 1.0) -> OptimConfig:
    """Kaplan's learning rate, or a share of it, to three digits; warm-up takes half of a very short
    run at most."""
    usual = kaplan(count) * OF_KAPLAN[config.kind] * share
    lr = config.lr if config.lr != auto else usual
    warmup = min(max(10, math.ceil(steps / 50)), steps // 2)
    return replace(
        config,
        lr=lr if config.lr != auto else float(f"{lr:.2e}"),
        warmup=warmup if config.warmup == auto else config.warmup,
    )


def kaplan(count: int) -> float:
    """The learning rate of a pretraining (Kaplan et al. 2020, appendix D.6)."""
    return max(1e-5, 0.003239 - 0.0001395 * math.log(count))


OF_KAPLAN = {"adamw": 1.0, "muon": 1.0, "lion": 0.2, "adafactor": 10.0}
"""Rates of optimizers as shares of the rule, which is Adam's: Muon is scaled to it (llm/muon.py),
Lion's entries all move by the whole rate, Adafactor's by a share of the weights: 1e-2 is usual."""


def checkpoint(config: CheckpointConfig, every: int) -> CheckpointConfig:
    """Ten checkpoints a run."""
    return config if config.every != auto else replace(config, every=every)
