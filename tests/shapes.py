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
    "grouped": {"width": 64, "heads": 4, "kv_heads": 2, "mlp": "relu2"},
    "one_key": {"width": 96, "heads": 6, "kv_heads": 1, "mlp": "geglu", "positions": "learned"},
    "llama3": {
        "heads": 4,
        "kv_heads": 2,
        "rope": RopeConfig(base=500.0, scaling="llama3", factor=4.0, original_context=24),
    },
    "qwen": {
        "width": 64,
        "heads": 4,
        "kv_heads": 2,
        "qk_norm": True,
        "qkv_bias": True,
        "mlp": "relu",
    },
    "mistral": {"width": 64, "heads": 4, "kv_heads": 2, "window": 20},
    "alibi": {"width": 48, "heads": 3, "positions": "alibi", "mlp": "relu"},
    "far": {
        "width": 96,
        "heads": 6,
        "kv_heads": 3,
        "positions": "alibi",
        "window": 37,
        "qk_norm": True,
    },
    "mixtral": {"width": 64, "heads": 4, "kv_heads": 2, "experts": 5},
    "switch": {"experts": 4, "experts_per_token": 1, "mlp": "gelu", "positions": "none"},
}
"""Settings of a ModelConfig by name, for models of width 32 and 2 heads otherwise.

Heads of 16 features are looked at in C, others in torch."""
