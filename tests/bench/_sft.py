"""Instruction tuning by TRL; run by the Python of a venv that has it (see sft.py).

Reads a line of JSON with shape and conversations, then trains a few steps in the mode that each
further line names and answers with useful tokens (no padding) and seconds of all but the first.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer

STEPS = 3
MODES: dict[str, dict[str, Any]] = {
    "padded": {"packing": False, "per_device_train_batch_size": 8},
    "packed": {
        "packing": True,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
    },
}


def main() -> None:
    """Set up once, then some steps a line."""
    task = json.loads(sys.stdin.readline())
    torch.set_num_threads(task["threads"])
    clock = time.process_time if task["threads"] == 1 else time.perf_counter
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**task["config"], pad_token_id=0, eos_token_id=1))
    rows = Dataset.from_dict({"input_ids": task["ids"], "assistant_masks": task["masks"]})
    trainers = {
        mode: make_trainer(model, rows, task["context"], settings, clock)
        for mode, settings in MODES.items()
    }
    say({"parameters": model.num_parameters()})
    for line in sys.stdin:
        trainer, meter = trainers[json.loads(line)["mode"]]
        trainer.train()
        say({"tokens": meter.tokens, "seconds": meter.seconds})


def say(answer: dict[str, Any]) -> None:
    print("\n" + json.dumps(answer), flush=True)


class Meter(TrainerCallback):
    """Seconds between the end of the first step and of the last, and tokens in between."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.tokens, self.start, self.seconds = 0, 0.0, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == 1:
            self.tokens, self.start = 0, self.clock()
        self.seconds = self.clock() - self.start

    def count(self, inputs: dict[str, Any]) -> None:
        seen = inputs.get("attention_mask")
        self.tokens += inputs["input_ids"].numel() if seen is None else int(seen.sum())


def make_trainer(
    model: LlamaForCausalLM,
    rows: Dataset,
    context: int,
    settings: dict[str, Any],
    clock: Callable[[], float],
) -> tuple[SFTTrainer, Meter]:
    """A trainer of STEPS steps in one mode, and what measures it."""
    words = Tokenizer(WordLevel({"<pad>": 0, "<end>": 1}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>"
    )
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=STEPS,
        max_length=context,
        learning_rate=1e-4,
        gradient_checkpointing=False,
        bf16=True,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=STEPS,
        **settings,
    )
    meter = Meter(clock)
    trainer = SFTTrainer(
        model=model, args=config, train_dataset=rows, processing_class=tokenizer, callbacks=[meter]
    )
    step = trainer.training_step

    def counted(model: Any, inputs: dict[str, Any], *rest: Any) -> Any:
        meter.count(inputs)
        return step(model, inputs, *rest)

    trainer.training_step = counted
    return trainer, meter


if __name__ == "__main__":
    main()
