"""Pretraining of one model in one process of possibly many: load, fit, validate, save.

The same function runs alone, under torchrun and inside Ray Train; only where its blocks come from
differs. Every pretrain artifact holds its task.json, so a run can be repeated without Ray:

    python -m llm.pretrain runs/NAME/pretrain/FINGERPRINT/task.json FOLDER
    torchrun --nproc-per-node 2 -m llm.pretrain TASK.json FOLDER
"""

import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from llm import checkpoint
from llm.artifact import write_model, write_shape
from llm.config import SamplingConfig
from llm.data import Block, Cursor, require_training_text
from llm.errors import UserError
from llm.evaluate import evaluate
from llm.generate import write
from llm.meter import Meter
from llm.metrics import Emit, Event, RunLog, step_line
from llm.model import Transformer
from llm.optim import make_optimizer
from llm.size import flops_per_token
from llm.step_log import NAME, StepLog
from llm.task import PretrainTask, held_out_of, read_task, sequences_of
from llm.tokenizer import Tokenizer
from llm.train import StepReport, Training, autocast, fit
from llm.units import units_of
from llm.world import World, fastest_precision, peak_flops, use_gpu

OpenBlocks = Callable[[Cursor], Iterable[Block]]


class Pretraining:
    """One process's run of a task: `run` it once."""

    def __init__(self, task: PretrainTask, emit: Emit) -> None:
        self.task = task
        self.world = World.current()
        self.tokenizer = Tokenizer(task.tokenizer)
        self.text = held_out_of(task, self.tokenizer)
        self.separator = self.tokenizer.eos if task.model.attend == "document" else None
        self.steps = StepLog(self._own(Path(task.folder) / NAME))
        self.log = RunLog(self._own(Path(task.folder) / "metrics.jsonl"), emit)
        automatic = fastest_precision(self.world.device)
        self.precision = automatic if task.train.precision == "auto" else task.train.precision
        self.training = self._load()
        flops = flops_per_token(task.model, self.tokenizer.vocab_size)
        self.meter = Meter(flops, self.world.size)
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
        self.steps.rewind(position.step)
        self._announce()
        if position.step in (0, task.train.steps):  # before the first, or fallen after the last
            self._validate()
        fit(
            self.training,
            open_blocks(position.cursor),
            task.train,
            seed=task.seed,
            world=self.world,
            precision=self.precision,
            after_step=self._after_step,
            separator=self.separator,
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
            held_out_bytes=self.text.bytes if self.text else 0,
            pid=os.getpid(),
            time=time.time(),
        )

    def _after_step(self, report: StepReport) -> None:
        train, step = self.task.train, report.step
        last = step == train.steps
        self.steps.add(step, report.span)
        if first := self.meter.add(report):
            self._measure_peak()
        if first or last or step % train.log_every == 0:
            figures = self.meter.read(train.steps)
            self.score = {**self.score, "train_loss": figures["loss"]}
            self.log("step", tokens=self.training.position.tokens, **figures)
        if step % train.validate_every == 0 or last:
            self._measure_peak()
            self._validate()
        if step % train.checkpoint.every == 0 or last:
            self._save()

    def _measure_peak(self) -> None:
        """Tell the meter the machine's limit while all processes ask for it, as in training."""
        self.world.sum(0.0)  # all start together
        self.meter.measured(peak_flops(self.world.device, self.precision))

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
                self.separator,
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
        best = position.best_bpb
        if self.validated == position.step and (best is None or self.score["bpb"] < best):
            position.best_step, position.best_bpb = position.step, self.score["bpb"]
        if self.world.rank == 0:
            start = time.perf_counter()
            self.steps.flush()
            path = checkpoint.save(folder, training.model, training.optimizer, position)
            checkpoint.prune(folder, self.task.train.checkpoint.keep, position.best_step)
            seconds = time.perf_counter() - start
            self.log("checkpoint", position.step, path=str(path), seconds=seconds)

    def _finish(self) -> Event:
        """The figures of this attempt for manifest and report."""
        position = self.training.position
        figures: Event = {**self.score, "tokens": position.tokens, **self.meter.totals()}
        if self.world.rank == 0:
            figures["passes"] = sequences_of(self.task).passes(position.cursor)
        self.log("end", position.step, time=time.time(), **figures)
        return figures


def plain_blocks(run: Pretraining, cursor: Cursor) -> Iterable[Block]:
    """This process's share of the stream, tokenised right here."""
    train, world = run.task.train, run.world
    blocks = sequences_of(run.task).blocks(cursor, train.micro_batch)
    slots = train.batch // train.micro_batch
    return (one for i, one in enumerate(blocks) if i % slots % world.size == world.rank)


def main(task_file: Path, folder: Path) -> None:
    """Run a task without Ray, in `folder`; under torchrun in all its processes together."""
    if "RANK" in os.environ:
        if use_gpu():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group()
    folder.mkdir(parents=True, exist_ok=True)
    task = replace(read_task(task_file), folder=str(folder))
    run = Pretraining(task, show)
    require_training_text(units_of(task.data), task.data)
    run.run(lambda cursor: plain_blocks(run, cursor))
    if dist.is_initialized():
        dist.barrier()  # gloo aborts a process that leaves while another still writes
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
