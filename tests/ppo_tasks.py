"""A PPO task small enough for tests: nine characters, a policy that starts out choosing evenly.

The reward is the share of the letter "a" in an answer, so the best policy can be worked out.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llm.align_config import ChatDataConfig, GuardConfig, KlConfig, PpoConfig
from llm.artifact import write_model, write_shape
from llm.chat import Template, Turn
from llm.config import CheckpointConfig, ModelConfig, OptimConfig, TokenizerConfig
from llm.examples import COMPARISON, INDEX, PROMPT, comparison_row, prompt_row
from llm.files import write_json
from llm.metrics import Event, read_log
from llm.model import Transformer
from llm.outside import Outside
from llm.ppo_run import PpoRun
from llm.ppo_task import PpoTask, read_ppo_task
from llm.ragged import write_rows
from llm.rankings import Ranking
from llm.reward import Normaliser, Scorer, write_scorer
from llm.tokenizer import Tokenizer
from llm.tokenizer_trainer import train as train_tokenizer
from tests.tasks import write_task

LETTERS = "abcdefgh"

ROOM = 8
"""Tokens of an answer at most."""

LENIENT = GuardConfig(same=1.0, preference=1.0)
"""Guards that let everybody answer the same, and disagree with people."""

SHAPE = {"depth": 1, "width": 32, "heads": 2, "hidden": 64, "context": 24, "tied": False}


def share_of_a(prompt: str, answer: str, reference: str) -> float:
    """What the rule of the tests gives: the letters "a", as a share of the room there is."""
    return answer.count("a") / ROOM


def write_tokenizer(path: Path, letters: str = LETTERS) -> Tokenizer:
    """A tokenizer with a token for each letter."""
    config = TokenizerConfig(model="char", byte_fallback=False, coverage=1.0)
    train_tokenizer([letters] * 3, config, path, seed=0)
    return Tokenizer(path)


def write_policy(folder: Path, *, even: bool = True, seed: int = 0) -> Tokenizer:
    """A chat model that takes every token for equally likely, or a fresh one of any opinion."""
    folder.mkdir(parents=True)
    tokenizer = write_tokenizer(folder.parent / "tokenizer.model")
    torch.manual_seed(seed)
    config = ModelConfig(**SHAPE)
    model = Transformer(config, tokenizer.vocab_size)
    for block in model.blocks:
        torch.nn.init.normal_(block.attention.qkv.weight, std=0.2)
    torch.nn.init.normal_(model.head.weight, std=0.0 if even else 0.2)
    write_shape(folder, config, tokenizer.path, tokenizer.vocab_size)
    write_model(folder, model)
    return tokenizer


def write_reward(folder: Path, seed: int = 1) -> None:
    """A reward model that judges at random, but always alike."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(folder.parent / "tokenizer.model")
    torch.manual_seed(seed)
    scorer = Scorer(Transformer(ModelConfig(**SHAPE), tokenizer.vocab_size))
    torch.nn.init.normal_(scorer.head.weight)
    write_shape(folder, ModelConfig(**SHAPE), tokenizer.path, tokenizer.vocab_size)
    write_scorer(folder, scorer, Normaliser(0.5, 2.0))


def write_prompts(folder: Path, template: Template, count: int = 20) -> None:
    """Prompts of two to five letters, and some more that are held out."""
    folder.mkdir()
    source = np.random.default_rng(0)
    for part, number in (("train", count), ("validation", 8)):
        words = [
            "".join(source.choice(list(LETTERS), source.integers(2, 6))) for _ in range(number)
        ]
        asked = [(Turn("user", word), Turn("assistant", "aaa")) for word in words]
        rows = [prompt_row(one, template, 16).row for one in asked]
        write_rows(folder / f"{part}-00000.safetensors", PROMPT, [row for row in rows if row])
    write_json(folder / INDEX, {"train": count, "validation": 8})


def write_comparisons(folder: Path, template: Template, count: int = 10) -> None:
    """Held-out comparisons in which people prefer b to a."""
    folder.mkdir()
    rankings = [
        Ranking((Turn("user", LETTERS[i % 8]),), ("bbb", "aaa"), (1.0, 0.0)) for i in range(count)
    ]
    rows = [comparison_row(one, template, 24, False).row for one in rankings]
    write_rows(folder / "validation-00000.safetensors", COMPARISON, [row for row in rows if row])
    write_json(folder / INDEX, {"train": 0, "validation": count})


def write_ppo_task(
    folder: Path,
    *,
    model_judges: bool = False,
    even: bool = True,
    compare: bool = False,
    **config: Any,
) -> Path:
    """A task.json and all that it names below `folder`."""
    template = Template(write_policy(folder / "policy", even=even))
    write_prompts(folder / "prompts", template)
    if model_judges:
        write_reward(folder / "reward")
    if compare:
        write_comparisons(folder / "comparisons", template)
    steps = config.pop("steps", 6)
    lr = config.pop("lr", 3e-3)
    settings = {
        "batch": 16,
        "micro_batch": 4,
        "minibatch": 8,
        "epochs": 2,
        "validate_every": steps,
        "log_every": 1,
        "critic_lr": lr,
        "truncated": None,
        "kl": KlConfig(coefficient=0.05, target=6.0, horizon=500),
        "guards": LENIENT,
        "checkpoint": CheckpointConfig(every=config.pop("save_every", steps)),
        "rule": None if model_judges else "tests.ppo_tasks:share_of_a",
        **config,
    }
    task = PpoTask(
        folder="",
        policy=str(folder / "policy"),
        reward=str(folder / "reward") if model_judges else "",
        prompts=str(folder / "prompts"),
        comparisons=str(folder / "comparisons") if compare else "",
        config=PpoConfig(
            data=(ChatDataConfig(shards=("unused",)),),
            steps=steps,
            answer_tokens=ROOM,
            precision="fp32",
            optim=OptimConfig(
                lr=lr, schedule="constant", warmup=0, weight_decay=0.0, betas=(0.9, 0.95)
            ),
            **settings,
        ),
        seed=3,
    )
    path = folder / "task.json"
    path.write_text(json.dumps(asdict(task)))
    return path


def with_text(folder: Path) -> dict[str, Any]:
    """A pretraining to mix in, in the words of the task's own tokenizer."""
    text = write_task(folder / "text", documents=60)
    theirs = str(folder / "text" / "tokenizer.model")
    text.write_text(text.read_text().replace(theirs, str(folder / "tokenizer.model")))
    return {"pretrain": str(text)}


def run_ppo(
    task: Path,
    folder: Path,
    watch: Callable[[Event], None] = lambda _: None,
    outside: Outside | None = None,
    **changes: Any,
) -> Event:
    """Run a task in this process; `changes` replace fields of it."""
    folder.mkdir(parents=True, exist_ok=True)
    read = replace(read_ppo_task(task), folder=str(folder), **changes)
    return PpoRun(read, outside or Outside(watch)).run()


def steps_of(folder: Path) -> list[Event]:
    """The step events of a run, without what depends on the clock; each step stands there once."""
    events = [event for event in read_log(folder / "metrics.jsonl") if event["event"] == "step"]
    assert [event["step"] for event in events] == list(range(1, len(events) + 1))
    left_out = ("event", "seconds", "phases", "eta", "tokens_per_second")
    return [{key: event[key] for key in event if key not in left_out} for event in events]
