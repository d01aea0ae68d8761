"""Decoder architectures: one for every part that changes how text is computed, and mixtures."""

from typing import Any

from llm.config import RopeConfig

SHAPES: dict[str, dict[str, Any]] = {
    "humpty": {},
    "gpt2": {
        "positions": "learned",
        "norm": "layernorm",
        "mlp": "gelu_tanh",
        "bias": True,
        "qkv_bias": True,
        "norm_eps": 1e-6,
    },
    "first": {"positions": "sinusoidal", "norm": "layernorm", "mlp": "gelu", "tied": False},
    "grouped": {"heads": 4, "kv_heads": 2, "mlp": "relu2"},
    "one_key": {"heads": 4, "kv_heads": 1, "mlp": "geglu", "positions": "learned"},
    "llama3": {
        "heads": 4,
        "kv_heads": 2,
        "rope": RopeConfig(base=500.0, scaling="llama3", factor=4.0, original_context=24),
    },
    "qwen": {"qk_norm": True, "qkv_bias": True, "heads": 4, "kv_heads": 2, "mlp": "relu"},
}
"""Settings of a ModelConfig by name, for models whose width divides by 4."""
