"""Pretraining of one model in one process of possibly many: load, fit, validate, save.

The same function runs alone, under torchrun and inside Ray Train; only where its blocks come from
differs. Every pretrain artifact holds its task.json, so a run can be repeated without Ray:

    python -m llm.pretrain runs/NAME/pretrain/FINGERPRINT/task.json FOLDER
    torchrun --nproc-per-node 2 -m llm.pretrain TASK.json FOLDER
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, get_type_hints

import torch
import torch.distributed as dist

from llm import checkpoint
from llm.artifact import write_model, write_shape
from llm.config import DataConfig, ModelConfig, SamplingConfig, TrainConfig
from llm.data import Block, Cursor, HeldOut, Sequences, held_out, require_training_text
from llm.errors import UserError
from llm.evaluate import evaluate
from llm.generate import write
from llm.metrics import Emit, Event, RunLog, step_line
from llm.model import Transformer
from llm.optim import make_optimizer
from llm.shards import list_shards, list_units
from llm.size import flops_per_token
from llm.tokenizer import Tokenizer
from llm.train import StepReport, Training, autocast, common_cursor, fit
from llm.world import World, fastest_precision, peak_flops

OpenBlocks = Callable[[Cursor], Iterable[Block]]


@dataclass(frozen=True, kw_only=True)
class PretrainTask:
    """All that decides a pretraining: resolved configs, files, seed. `folder` is its artifact."""

    folder: str
    tokenizer: str
    data: DataConfig
    model: ModelConfig
    train: TrainConfig
    prompt: str
    seed: int

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return Path(self.folder) / "checkpoints"

    def to_json(self) -> dict[str, Any]:
        """As it stands in task.json."""
        return asdict(self)


def read_task(path: Path) -> PretrainTask:
    """A task from its JSON file."""
    return from_json(PretrainTask, json.loads(path.read_text()))


def from_json(cls: Any, record: Any) -> Any:
    """Rebuild a frozen record, with the records inside it, from what `asdict` and JSON made."""
    if isinstance(record, dict):
        hints = get_type_hints(cls)
        return cls(**{key: from_json(hints[key], value) for key, value in record.items()})
    return tuple(record) if isinstance(record, list) else record


def sequences_of(task: PretrainTask) -> Sequences:
    """The training sequences of a task."""
    units = list_units(list_shards(task.data.shards, task.data.format))
    return Sequences(
        tuple(units), task.data, Tokenizer(task.tokenizer), task.model.context, task.seed
    )


def held_out_of(task: PretrainTask, sequences: Sequences) -> HeldOut | None:
    """The text that measures a task's model."""
    validation = task.data.validation
    if validation.shards:
        units = list_units(list_shards(validation.shards, task.data.format))
    else:
        units = list(sequences.units) if validation.fraction else []
    return held_out(units, task.data, sequences.tokenizer, task.model.context)


class Pretraining:
    """One process's run of a task: `run` it once."""

    def __init__(self, task: PretrainTask, emit: Emit) -> None:
        self.task = task
        self.world = World.current()
        self.sequences = sequences_of(task)
        self.tokenizer = self.sequences.tokenizer
        self.text = held_out_of(task, self.sequences)
        self.log = RunLog(self._own(Path(task.folder) / "metrics.jsonl"), emit)
        automatic = fastest_precision(self.world.device)
        self.precision = automatic if task.train.precision == "auto" else task.train.precision
        self.flops = flops_per_token(task.model, self.tokenizer.vocab_size)
        self.peak = 0.0
        self.training = self._load()
        self.window: list[StepReport] = []
        self.totals: dict[str, float] = {}
        self.score: dict[str, float] = {}
        self.validated = -1

    def _own(self, path: Path) -> Path | None:
        """Only the first process writes files."""
        return path if self.world.rank == 0 else None

    def _load(self) -> Training:
        """A fresh model, or the newest checkpoint."""
        torch.manual_seed(self.task.seed)
        model = Transformer(self.task.model, self.tokenizer.vocab_size).to(self.world.device)
        training = Training(model, make_optimizer(model, self.task.train.optim))
        found = checkpoint.newest(self.task.checkpoints)
        if found:
            training.position = checkpoint.load(found, model, training.optimizer)
        return training

    def run(self, open_blocks: OpenBlocks) -> Event:
        """Train to the end; returns the final figures. The weights are in the task's folder."""
        task, position = self.task, self.training.position
        self.log.rewind(position.step)
        self._announce()
        if position.step == 0:
            self._validate()
        fit(
            self.training,
            open_blocks(position.cursor),
            task.train,
            seed=task.seed,
            world=self.world,
            precision=self.precision,
            after_step=self._after_step,
        )
        if self.world.rank == 0:
            write_model(Path(task.folder), self.training.model)
        return self._finish()

    def _announce(self) -> None:
        if self.world.rank == 0:
            folder, vocab_size = Path(self.task.folder), self.tokenizer.vocab_size
            write_shape(folder, self.task.model, Path(self.task.tokenizer), vocab_size)
        self.log(
            "start",
            self.training.position.step,
            steps=self.task.train.steps,
            parameters=sum(p.numel() for p in self.training.model.parameters()),
            workers=self.world.size,
            device=str(self.world.device),
            precision=self.precision,
            pid=os.getpid(),
            time=time.time(),
        )

    def _after_step(self, report: StepReport) -> None:
        train, step = self.task.train, report.step
        last = step == train.steps
        self.window.append(report)
        if step % train.log_every == 0 or last or not self.totals:
            self._log_steps()
        if step % train.validate_every == 0 or last:
            self._validate()
        if step % train.checkpoint.every == 0 or last:
            self._save()

    def _log_steps(self) -> None:
        """One event for the steps since the last one."""
        newest, steps = self.window[-1], self.task.train.steps
        self.peak = self.peak or self._measure_peak()
        tokens = sum(report.tokens for report in self.window)
        seconds = sum(report.seconds for report in self.window)
        waited = sum(report.waited for report in self.window)
        loss = sum(report.loss * report.tokens for report in self.window) / tokens
        flops = self.flops * tokens / seconds / self.world.size
        self._count(tokens=tokens, seconds=seconds, waited=waited)
        self.log(
            "step",
            newest.step,
            steps=steps,
            loss=loss,
            lr=newest.lr,
            grad_norm=newest.grad_norm,
            tokens=self.training.position.tokens,
            tokens_per_second=tokens / seconds,
            mfu=flops / self.peak,
            data_wait=waited / seconds,
            eta=(steps - newest.step) * seconds / len(self.window),
        )
        self.score = {**self.score, "train_loss": loss}
        self.window.clear()

    def _measure_peak(self) -> float:
        """The machine's limit while all processes ask for it, as in training."""
        self.world.sum(0.0)  # all start together
        return peak_flops(self.world.device, self.precision)

    def _count(self, **amounts: float) -> None:
        """Add to the run's totals; the first step waits for the stream to start and is left out."""
        if not self.totals:
            self.totals = dict.fromkeys(amounts, 0.0)
        else:
            self.totals = {name: self.totals[name] + amounts[name] for name in amounts}

    def _validate(self) -> None:
        """Measure the model on held-out text, and let it continue the prompt."""
        training, step = self.training, self.training.position.step
        if self.text is not None:
            score = evaluate(
                training.model,
                self.text,
                self.tokenizer.eos,
                self.world,
                self.task.train.micro_batch,
                lambda: autocast(self.world.device, self.precision),
            )
            self.score = {**self.score, "loss": score.loss, "bpb": score.bpb}
            self.validated = step
            self.log("validation", step, loss=score.loss, bpb=score.bpb)
        if self.task.prompt and self.world.rank == 0:
            sampling = SamplingConfig(max_tokens=48, temperature=0.7, seed=step)
            text = "".join(write(training.model, self.tokenizer, self.task.prompt, sampling))
            self.log("sample", step, prompt=self.task.prompt, text=text)

    def _save(self) -> None:
        """Commit weights, optimizer and position together."""
        training, position, folder = self.training, self.training.position, self.task.checkpoints
        position.cursor = common_cursor(position, self.world)
        best = position.best_bpb
        if self.validated == position.step and (best is None or self.score["bpb"] < best):
            position.best_step, position.best_bpb = position.step, self.score["bpb"]
        if self.world.rank == 0:
            start = time.perf_counter()
            path = checkpoint.save(folder, training.model, training.optimizer, position)
            checkpoint.prune(folder, self.task.train.checkpoint.keep, position.best_step)
            seconds = time.perf_counter() - start
            self.log("checkpoint", position.step, path=str(path), seconds=seconds)

    def _finish(self) -> Event:
        """The figures of this attempt for manifest and report."""
        figures = {**self.score, "tokens": self.training.position.tokens}
        if seconds := self.totals.get("seconds"):
            rate = self.totals["tokens"] / seconds
            figures |= {
                "tokens_per_second": rate,
                "flops_per_second": rate * self.flops,
                "data_wait": self.totals["waited"] / seconds,
            }
        self.log("end", self.training.position.step, time=time.time(), **figures)
        return figures


def plain_blocks(run: Pretraining, cursor: Cursor) -> Iterable[Block]:
    """This process's share of the stream, tokenised right here."""
    blocks = run.sequences.blocks(cursor, run.task.train.micro_batch)
    return islice(blocks, run.world.rank, None, run.world.size)


def main(task_file: Path, folder: Path) -> None:
    """Run a task without Ray, in `folder`; under torchrun in all its processes together."""
    if "RANK" in os.environ:
        dist.init_process_group()
    folder.mkdir(parents=True, exist_ok=True)
    task = replace(read_task(task_file), folder=str(folder))
    run = Pretraining(task, show)
    require_training_text(run.sequences)
    run.run(lambda cursor: plain_blocks(run, cursor))
    if dist.is_initialized():
        dist.destroy_process_group()


def show(event: Event) -> None:
    """Print an event as a plain line."""
    if event["event"] == "step":
        print(step_line(event), flush=True)
    elif event["event"] == "validation":
        print(f"step {event['step']}: validation {event['bpb']:.4f} bits per byte", flush=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except UserError as error:
        sys.exit(str(error))
