"""Model folders small enough for tests, with weights that nobody trained but that differ widely."""

import random
from pathlib import Path
from typing import Any

import torch

from llm.artifact import write_model, write_shape
from llm.chat_artifact import write_chat_shape
from llm.config import ModelConfig, TokenizerConfig
from llm.model import Transformer
from llm.tokenizer import Tokenizer
from llm.tokenizer_trainer import train

TEXTS = [
    "the king and all his horses ride to the wall",
    "all the men put the egg together again",
    "国王的马和国王的人",
    "an egg sat on a wall, and had a great fall: höhö!",
]


def make_model(vocab_size: int, **shape: Any) -> Transformer:
    """Two layers of width 32; logits some units apart."""
    torch.manual_seed(3)
    small = {"depth": 2, "width": 32, "heads": 2, "hidden": 48, "context": 64}
    model = Transformer(ModelConfig(**(small | shape)), vocab_size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def write_folder(folder: Path, *, chat: bool = True, vocab_size: int = 320, **shape: Any) -> Path:
    """An artifact: a unigram tokenizer with byte fallback, and a model for it."""
    folder.mkdir(parents=True)
    source = random.Random(1)
    words = " ".join(TEXTS).split()
    texts = TEXTS + [" ".join(source.choices(words, k=9)) for _ in range(300)]
    trained = folder / "trained.model"
    train(texts, TokenizerConfig(vocab_size=vocab_size, byte_fallback=True), trained, seed=0)
    tokenizer = Tokenizer(trained)
    model = make_model(tokenizer.vocab_size, **shape)
    if chat:
        write_chat_shape(folder, model.config, tokenizer)
    else:
        write_shape(folder, model.config, trained, tokenizer.vocab_size)
    trained.unlink()  # the folder was given a copy of it
    write_model(folder, model)
    return folder
