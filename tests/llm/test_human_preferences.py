"""What people prefer, learned from real comparisons: models of 1M weights, minutes on two cores.

A tokenizer and a language model are made of the training part's texts (and of instructions), then
a reward model of the comparisons, all by the recipes that stages use. Nothing held out, by a hash
of the first question, is seen before the end.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llm.align import align, new_task
from llm.align_config import ChatDataConfig, PreferenceDataConfig, RewardConfig, SftConfig
from llm.align_task import Config, Kind
from llm.artifact import write_model
from llm.chat import Template, Turn
from llm.chat_artifact import write_chat_shape
from llm.config import CheckpointConfig, ModelConfig, OptimConfig, TokenizerConfig
from llm.conversations import question_of, read_conversations
from llm.documents import is_held_out
from llm.examples import CHAT, INDEX
from llm.files import write_json
from llm.metrics import Event
from llm.model import Transformer
from llm.outside import Outside
from llm.ragged import write_rows
from llm.rankings import Ranking, read_rankings
from llm.rows import row_units
from llm.tokenizer import Tokenizer
from llm.tokenizer_trainer import train as train_tokenizer
from tests.comparisons import write_examples

NONE: Any = ()


def rankings_in(path: Path, schema: Any, **columns: str) -> list[Ranking]:
    config = PreferenceDataConfig(shards=(str(path),), schema=schema, columns=columns)
    return [one for unit in row_units(config) for one in read_rankings(unit, config)]


def instructions_in(path: Path) -> list[tuple[Turn, ...]]:
    config = ChatDataConfig(shards=(str(path),), schema="alpaca")
    return [one for unit in row_units(config) for one in read_conversations(unit, config)]


def learn(
    folder: Path,
    rankings: list[Ranking],
    instructions: list[tuple[Turn, ...]],
    tokenizer: TokenizerConfig,
    shape: ModelConfig,
    validation: float,
    passes: int,
    epochs: int,
    batch: int,
    lr: float,
) -> Event:
    """Tokenizer, language model, reward model; the figures of the last."""
    held_out = [is_held_out(question_of(one.prompt), validation) for one in rankings]
    train = [one for one, held in zip(rankings, held_out, strict=True) if not held]
    test = [one for one, held in zip(rankings, held_out, strict=True) if held]
    told = [
        (*one.prompt[-used:], Turn("assistant", answer))
        for one in train
        for used, answer in zip((len(one.prompt), 1), one.answers, strict=True)
    ]
    template = write_fresh(folder / "start", [*told, *instructions], tokenizer, shape)
    write_texts(folder / "texts", template, [*told, *instructions], shape.context)
    write_examples(folder / "examples", template, train, test, shape.context)
    run(folder, "sft", "start", "texts", SftConfig(data=NONE, epochs=passes, **loop(8, 3e-3)))
    judge = RewardConfig(data=NONE, epochs=epochs, **loop(batch, lr))
    return run(folder, "reward", "sft", "examples", judge)


def write_fresh(
    folder: Path, chats: list[tuple[Turn, ...]], config: TokenizerConfig, shape: ModelConfig
) -> Template:
    folder.mkdir()
    path = folder.with_suffix(".tokenizer")
    train_tokenizer([turn.text for chat in chats for turn in chat], config, path, seed=0)
    tokenizer = Tokenizer(path)
    write_chat_shape(folder, shape, tokenizer)
    torch.manual_seed(0)
    write_model(folder, Transformer(shape, tokenizer.vocab_size))
    return Template(tokenizer)


def write_texts(
    folder: Path, template: Template, chats: list[tuple[Turn, ...]], context: int
) -> None:
    """Conversations of which every token is a target: there is little text, and all of it tells."""
    rows = [template.render(chat).ids[-context - 1 :] for chat in chats]
    every = [{"ids": ids, "weights": np.ones(len(ids), np.float32)} for ids in rows]
    write_rows(folder / "train-00000.safetensors", CHAT, every)
    write_rows(folder / "validation-00000.safetensors", CHAT, [])
    write_json(folder / INDEX, {"train": len(every), "validation": 0, "skipped": {}})


def loop(batch: int, lr: float) -> dict[str, Any]:
    return {
        "batch": batch,
        "micro_batch": batch,
        "precision": "bf16",
        "validate_every": 100_000,
        "checkpoint": CheckpointConfig(every=100_000),
        "optim": OptimConfig(lr=lr),
    }


def run(folder: Path, kind: Kind, start: str, examples: str, config: Config) -> Event:
    (folder / kind).mkdir()
    task = new_task(kind, folder / kind, folder / start, folder / examples, config, seed=0)
    return align(task, Outside(print))


@pytest.mark.long
def test_harmlessness_is_learned_from_transcripts(tmp_path: Path, shared_data: Path) -> None:
    """Logistic regression on words and pairs of words reaches 0.61 (five folds, 1,646 pairs)."""
    rankings = rankings_in(shared_data / "d_pref/hh_harmless_dev.jsonl.gz", "transcripts")
    figures = learn(
        tmp_path,
        rankings,
        instructions_in(shared_data / "c_sft/alpaca_en_demo.json"),
        TokenizerConfig(vocab_size=2000, byte_fallback=True, coverage=0.9995),
        ModelConfig(depth=3, width=128, heads=4, hidden=384, context=256),
        validation=0.2,
        passes=4,
        epochs=1,
        batch=16,
        lr=3e-4,
    )
    assert figures["pairs"] > 300 and figures["low"] > 0.5, figures


@pytest.mark.long
def test_chinese_preferences_are_more_than_length(tmp_path: Path, shared_data: Path) -> None:
    """The longer answer is the preferred one in 0.62 of all 400 pairs."""
    rankings = [
        *rankings_in(shared_data / "d_pref/dpo_zh_demo.json", "pairs", prompt="conversations"),
        *rankings_in(
            shared_data / "d_pref/medical_reward_zh_100.jsonl",
            "pairs",
            prompt="question",
            chosen="response_chosen",
            rejected="response_rejected",
        ),
    ]
    figures = learn(
        tmp_path,
        rankings,
        instructions_in(shared_data / "c_sft/alpaca_zh_demo.json"),
        TokenizerConfig(vocab_size=4000, byte_fallback=True, coverage=0.995),
        ModelConfig(depth=2, width=128, heads=4, hidden=384, context=384, dropout=0.2),
        validation=0.3,
        passes=2,
        epochs=3,
        batch=8,
        lr=1e-3,
    )
    assert figures["accuracy"] > figures["length_baseline"], figures
