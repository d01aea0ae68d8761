"""What the plan says of an alignment."""

from collections.abc import Iterator

from cluster.config import ClusterConfig
from jobs.estimate import worker_memory
from jobs.figures import counted
from jobs.planned import Plan, StagePlan
from jobs.stages import (
    DpoStage,
    ExampleStage,
    PpoStage,
    RewardStage,
    SftStage,
)
from llm.config import ModelConfig
from llm.metrics import quantity, size_of
from llm.ppo_memory import plan_memory
from llm.processor import instructions
from llm.size import parameters

Rows = Iterator[tuple[str, str]]

WHAT = {"sft": "row", "reward": "comparison", "dpo": "comparison"}


def aligned_rows(aligned: ExampleStage, stage: StagePlan, plan: Plan) -> Rows:
    """Data, length, optimizer; and for PPO what its models take."""
    yield "data", f"{counted(len(aligned.data), 'set')}, {size_of(stage.text_bytes)}"
    if stage.stage is None:
        yield "model", f"its size is known after {stage.reason.split(chr(39))[1]!r}"
        return
    assert stage.model is not None and stage.vocab_size is not None
    count = sum(parameters(stage.model, stage.vocab_size).values())
    yield "model", f"{quantity(count)} parameters, that of '{aligned.from_}'"
    yield "training", length(aligned, plan.cluster.most_workers)
    yield "objective", objective(aligned)
    yield "optimizer", f"learning rate {aligned.optim.lr:g}, {aligned.optim.schedule}"
    parts = memory(aligned, stage.model, stage.vocab_size, plan.cluster)
    listed = ", ".join(f"{part} {size_of(size)}" for part, size in parts.items() if size)
    yield "memory", f"{size_of(sum(parts.values()))} per worker: {listed}"


def length(aligned: ExampleStage, workers: int) -> str:
    """How long, in what portions."""
    dealt = f", dealt to {workers} workers" if workers > 1 else ""
    if isinstance(aligned, PpoStage):
        return (
            f"{counted(aligned.steps, 'step')} of {counted(aligned.batch, 'answer')}, each read "
            f"{counted(aligned.epochs, 'time')} in minibatches of {aligned.minibatch}{dealt}"
        )
    what = counted(aligned.batch, WHAT[aligned.kind])
    return f"{counted(aligned.epochs, 'epoch')}, {what} a step{dealt}"


def objective(aligned: ExampleStage) -> str:
    """What is made small, or large."""
    match aligned:
        case SftStage():
            return "loss of answers" + (", several in a row" if aligned.packing else "")
        case RewardStage():
            return "Bradley-Terry loss of all pairs" + (" with margins" if aligned.margin else "")
        case DpoStage():
            return f"DPO, beta {aligned.beta:g}"
        case PpoStage():
            judge = f"'{aligned.reward}'" if aligned.reward else f"rule {aligned.rule}"
            kl = aligned.kl
            price = f"{kl.coefficient:g} a nat"
            steered = f", steered to {kl.target:g} nats an answer" if kl.adaptive else ""
            return f"reward of {judge} less {price} of divergence{steered}"


def memory(
    aligned: ExampleStage, model: ModelConfig, vocab: int, cluster: ClusterConfig
) -> dict[str, int]:
    """What a worker holds at most: bytes by part."""
    if isinstance(aligned, PpoStage):
        bf16 = aligned.precision == "bf16"
        judge = model if aligned.reward else None
        return plan_memory(model, judge, vocab, aligned, bf16=bf16, gpu=cluster.gpus_per_worker > 0)
    answers = 1 if isinstance(aligned, SftStage) else 2
    parts = worker_memory(aligned, model, vocab, cluster, instructions(), answers)
    return {**parts, "logits": 0} if isinstance(aligned, RewardStage) else parts
