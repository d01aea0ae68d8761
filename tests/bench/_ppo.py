"""PPO steps by TRL; run by the Python of a venv that has it (see ppo.py).

Reads a line of JSON with shapes and settings, then makes a step for every further line and answers
with the seconds it took and those of them that went into writing answers.
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
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

PAD, END = 0, 1


def main() -> None:
    """Set up once, then a step a line."""
    task = json.loads(sys.stdin.readline())
    torch.set_num_threads(task["threads"])
    clock = time.process_time if task["threads"] == 1 else time.perf_counter
    written = Stopwatch(ppo_trainer.batch_generation, clock)
    ppo_trainer.batch_generation = written
    trainer = make_trainer(task)
    say({"parameters": sum(p.numel() for p in trainer.policy_model.parameters())})
    for _ in sys.stdin:
        written.seconds = 0.0
        start = clock()
        trainer.train()
        say({"seconds": clock() - start, "rollout": written.seconds})


def say(answer: dict[str, Any]) -> None:
    print("\n" + json.dumps(answer), flush=True)


class Stopwatch:
    """A function that adds up the seconds spent in it."""

    def __init__(self, function: Callable[..., Any], clock: Callable[[], float]) -> None:
        self.function, self.clock, self.seconds = function, clock, 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = self.clock()
        result = self.function(*args, **kwargs)
        self.seconds += self.clock() - start
        return result


def make_trainer(task: dict[str, Any]) -> PPOTrainer:
    """Policy, reference, reward model and critic of one shape; `train` makes one step."""
    config = LlamaConfig(**task["config"], pad_token_id=PAD, eos_token_id=END, num_labels=1)
    torch.manual_seed(0)
    policy, reference = LlamaForCausalLM(config), LlamaForCausalLM(config)
    reference.load_state_dict(policy.state_dict())
    reward, critic = (LlamaForSequenceClassification(config) for _ in range(2))
    words = Tokenizer(WordLevel({"<pad>": PAD, "<end>": END}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", padding_side="left"
    )
    prompts = Dataset.from_dict({"input_ids": task["prompts"]})
    micro, batch = task["micro_batch"], task["batch"]
    settings = PPOConfig(
        output_dir=tempfile.mkdtemp(),
        total_episodes=batch,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // micro,
        num_mini_batches=batch // task["minibatch"],
        num_ppo_epochs=task["epochs"],
        response_length=task["answer_tokens"],
        local_rollout_forward_batch_size=batch,
        temperature=1.0,
        kl_coef=0.05,
        stop_token="eos",
        missing_eos_penalty=1.0,
        learning_rate=1e-5,
        num_sample_generations=0,
        gradient_checkpointing=False,
        bf16=True,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    return PPOTrainer(
        args=settings,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward,
        value_model=critic,
        train_dataset=prompts,
        eval_dataset=prompts,
    )


if __name__ == "__main__":
    main()
