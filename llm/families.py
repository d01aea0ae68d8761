"""The kinds of networks that a `ModelConfig` can describe, by their `family`."""

from llm.config import ModelConfig
from llm.encoder import Encoder
from llm.encoder_decoder import EncoderDecoder
from llm.model import Transformer
from llm.window_model import WindowModel

Network = Transformer | EncoderDecoder

FAMILIES: dict[str, type[Transformer] | type[EncoderDecoder]] = {
    "decoder": Transformer,
    "window": WindowModel,
    "encoder": Encoder,
    "encoder_decoder": EncoderDecoder,
}


def make_model(config: ModelConfig, vocab_size: int) -> Network:
    """A fresh model for a tokenizer of so many tokens."""
    return FAMILIES[config.family](config, vocab_size)
