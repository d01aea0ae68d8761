"""A pretraining on machines that are not there: what it would take on so many GPUs of a kind.

`python -m jobs plan FILE --workers 1024 --gpu h100` reckons and runs nothing. The formulas are in
llm/memory.py, llm/seconds.py, llm/network.py and llm/layouts.py, the GPUs in llm/gpus.py; what they
are worth is shown by `python -m tests.bench plan`. Model, batch and length are those of the spec.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from jobs.planned import Plan, StagePlan
from jobs.stages import PretrainStage, TokenizerStage
from llm.errors import SpecError
from llm.goodput import Costs, best_interval, between_falls, goodput
from llm.gpus import GPUS_PER_NODE, Gpu, known_gpu
from llm.layouts import Proposal, proposals
from llm.memory import saved
from llm.size import kept_by, like_decoder, parameters

HOST_COPY = 20e9
"""Bytes a second from a GPU to its host's memory, which a save waits for (PCIe 4.0, pinned)."""

NODE_WRITE = 1e9
"""Bytes a second that a node writes to the storage."""

RESTART = 300.0
"""Seconds from a fall to the next step in a group of hundreds: nodes, NCCL, weights from
storage."""

OFTEN = 60.0
"""Seconds between saves at least, whatever falls cost: storage is there for others, too."""

MTBF_HOURS = (10_000.0, 50_000.0)
"""For comparison: 50,000 GPU hours lay between falls of Llama 3 405B (419 in 54 days on 16,384
GPUs; Grattafiori et al. 2024, section 3.3.4)."""

INGEST_SPEED = 3.5e6
"""Bytes of text a second that one core reads, tokenises and packs in Ray Data: 7 MB/s with two
(unigram, 8192 tokens, EPYC; `python -m tests.bench ingest`)."""

INGEST_CORES = 64
"""Of a node that only reads."""

BYTES_PER_TOKEN = {"unigram": 4.0, "bpe": 4.0, "char": 1.0, "word": 5.0}
"""Typical of English, until the tokenizer has measured it."""


@dataclass(frozen=True)
class Machines:
    """What is asked about."""

    gpu: Gpu
    workers: int
    """One GPU each."""
    price: float
    """Dollars for an hour of one; 0: not told."""

    @property
    def nodes(self) -> int:
        """Of eight GPUs."""
        return math.ceil(self.workers / GPUS_PER_NODE)


@dataclass(frozen=True)
class OnPaper:
    """A pretraining, worked out."""

    name: str
    stage: PretrainStage
    parameters: int
    machines: Machines
    found: tuple[Proposal, ...]
    """The fastest that fit first."""
    costs: Costs
    """Of saving and falling."""
    mtbf_hours: float
    """Of one GPU."""
    text_speed: float | None
    """Bytes of text that go in a second; None: the text was tokenised beforehand."""

    @property
    def best(self) -> Proposal:
        """The fastest that fits, or what comes nearest to fitting."""
        return self.found[0]

    @property
    def best_today(self) -> Proposal | None:
        """The fastest of those that a spec can ask for; None: none of them fits."""
        return next((one for one in self.found if one.fits and one.runs_today), None)

    @property
    def training_seconds(self) -> float:
        """Of all steps, if nothing falls."""
        return self.stage.steps * self.best.seconds

    @property
    def goodputs(self) -> Mapping[float, float]:
        """Share of the time that trains, by hours between failures of a GPU."""
        return {hours: self.goodput(hours) for hours in (self.mtbf_hours, *MTBF_HOURS)}

    def interval(self, hours: float) -> float:
        """Seconds between saves at which most of the time trains, but for `OFTEN`."""
        mtbf = between_falls(hours, self.machines.workers)
        return max(OFTEN, best_interval(self.costs, mtbf))

    def goodput(self, hours: float) -> float:
        """Share of the time that trains if a GPU fails every so many hours."""
        mtbf = between_falls(hours, self.machines.workers)
        return goodput(self.costs, self.interval(hours), mtbf)

    @property
    def seconds(self) -> float:
        """Of all steps with what falls cost."""
        return self.training_seconds / self.goodput(self.mtbf_hours)

    @property
    def gpu_hours(self) -> float:
        """That are paid for."""
        return self.seconds / 3600 * self.machines.workers

    @property
    def ingest_cores(self) -> int | None:
        """Cores that keep up."""
        return None if self.text_speed is None else math.ceil(self.text_speed / INGEST_SPEED)


def machines_of(
    plan: Plan, gpu: str, workers: int | None, price: float | None, network: float | None
) -> Machines:
    """What the options name, and the spec where they do not; SpecError for a strange GPU."""
    kind = known_gpu(gpu)
    if network is not None:
        kind = replace(kind, network=network * 1e9)
    return Machines(
        kind,
        plan.cluster.most_workers if workers is None else workers,
        plan.cluster.price if price is None else price,
    )


def on_paper(plan: Plan, machines: Machines) -> Iterator[StagePlan | OnPaper]:
    """Every pretraining of a plan; as it is if its size is not known yet."""
    for stage in plan.stages:
        if stage.kind == "pretrain":
            known = stage.estimate is not None
            yield worked_out(stage, plan, machines) if known else stage


def worked_out(stage: StagePlan, plan: Plan, machines: Machines) -> OnPaper:
    """A pretraining whose size is known; SpecError if there is not enough to do for all."""
    pretrain, vocab = stage.stage, stage.vocab_size
    assert isinstance(pretrain, PretrainStage) and vocab is not None
    if pretrain.batch < machines.workers:
        raise SpecError(
            f"stages.{stage.name}.batch: {pretrain.batch} sequences cannot be dealt to "
            f"{machines.workers:,} workers; ask for --workers {pretrain.batch} at most, or set "
            f"stages.{stage.name}.batch={machines.workers}, which changes the training"
        )
    model = like_decoder(pretrain.model)
    moments = kept_by(pretrain.optim, model, vocab)
    found = proposals(model, vocab, pretrain.batch, machines.workers, machines.gpu, moments)
    best = found[0]
    copied = saved(model, vocab, best.layout)
    count = sum(parameters(pretrain.model, vocab).values())
    written = 4 * (1 + moments) * count / (machines.nodes if best.layout.shards > 1 else 1)
    speed = None
    if pretrain.epochs is None:
        speed = best.tokens / best.seconds * bytes_per_token(pretrain, plan)
    return OnPaper(
        name=stage.name,
        stage=pretrain,
        parameters=count,
        machines=machines,
        found=tuple(found),
        costs=Costs(stall=copied / HOST_COPY, write=written / NODE_WRITE, restart=RESTART),
        mtbf_hours=plan.cluster.mtbf_hours,
        text_speed=speed,
    )


def bytes_per_token(pretrain: PretrainStage, plan: Plan) -> float:
    """Of the training text; typical ones while the tokenizer has not measured it."""
    tokenizer = plan.spec.stages[pretrain.tokenizer]
    measured = plan.by_name[pretrain.tokenizer].metrics.get("bytes_per_token")
    kind = tokenizer.model if isinstance(tokenizer, TokenizerStage) else "bpe"  # of a model
    return measured or BYTES_PER_TOKEN[kind]
