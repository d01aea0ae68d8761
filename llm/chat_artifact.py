"""A chat model's folder: that of any model, and the template in which it was taught to talk.

chat_template.jinja, tokenizer.json, tokenizer_config.json   what transformers reads
"""

from pathlib import Path

from llm.artifact import write_shape
from llm.config import ModelConfig
from llm.hf_tokenizer import TEMPLATE, write_hf_tokenizer
from llm.tokenizer import Tokenizer


def write_chat_shape(folder: Path, model: ModelConfig, tokenizer: Tokenizer) -> None:
    """Put down what the weights of this folder belong to, and how to talk to them."""
    write_shape(folder, model, tokenizer.path, tokenizer.vocab_size)
    write_hf_tokenizer(tokenizer.path, folder, model.context)


def is_chat(folder: Path) -> bool:
    """Whether a folder's model was taught to talk."""
    return (folder / TEMPLATE).exists()
