"""How much memory writing takes, by arithmetic alone: no model is built, torch not loaded."""

from llm.config import ModelConfig
from llm.size import parameters

GRID = 64
"""As in llm/pool.py: room for a text is rounded up to so many tokens."""

PRODUCTS = {"fp32": 4, "bf16": 2, "int8": 1}
"""Bytes of a weight that is multiplied."""


def key_value_bytes(model: ModelConfig, tokens: int, number: int) -> int:
    """Keys and values of so many tokens, whose numbers take `number` bytes."""
    features = model.width // model.heads
    return 2 * model.depth * tokens * model.kv_heads * features * number


def serving_bytes(model: ModelConfig, vocab: int, tokens: int, precision: str) -> dict[str, int]:
    """What an engine holds that remembers so many tokens, in whole texts.

    Embeddings are looked up in fp32 and, as the head, multiplied in the precision of products; int8
    goes with keys and values in bf16.
    """
    counted = parameters(model, vocab)
    looked_up = counted["token embedding"] + counted["positions"]
    head = vocab * model.width
    rest = sum(counted.values()) - looked_up - counted["head"]
    room = -(-model.context // GRID) * GRID
    lines = max(1, tokens // model.context)
    return {
        "weights": 4 * looked_up + PRODUCTS[precision] * (rest + head),
        "keys and values": key_value_bytes(model, lines * room, max(2, PRODUCTS[precision])),
    }
