"""Architectures by their names: other defaults for the fields of a model, whatever its size.

They hold what makes an architecture, not what makes it large: `{preset: gpt2, depth: 12, context:
1024}` is the smallest GPT-2. What a spec says itself comes first.
"""

from collections.abc import Callable, Mapping
from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "humpty": {},
    "gpt2": {  # Radford et al. 2019, section 2.3
        "positions": "learned",
        "norm": "layernorm",
        "mlp": "gelu_tanh",
        "bias": True,
    },
    "llama": {"rope": {"base": 500_000.0}, "tied": False},  # Grattafiori et al. 2024, table 3
    "bert": {  # Devlin et al. 2019; norms stand before layers here, not behind them
        "family": "encoder",
        "positions": "learned",
        "norm": "layernorm",
        "norm_eps": 1e-12,
        "mlp": "gelu",
        "bias": True,
    },
    "t5": {  # version 1.1 (Shazeer 2020); rotations take the place of biases by distance
        "family": "encoder_decoder",
        "norm_eps": 1e-6,
        "mlp": "geglu",
        "tied": False,
    },
    "window": {"family": "window", "window": 8},  # Bengio et al. 2003, with blocks of today
}

GROUP = 4
"""Heads that share one of keys and values in the preset llama, where their number allows it."""


def kv_heads(preset: str, heads: int) -> int:
    """Heads of keys and values, unless a spec says how many."""
    if preset != "llama":
        return heads
    return heads // max(size for size in range(1, GROUP + 1) if heads % size == 0)


class Preset:
    """Marks a field that holds a model, whose preset gives the defaults of what is not written."""

    @staticmethod
    def __get_pydantic_core_schema__(source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(with_preset, handler(source))


def with_preset(written: Any) -> Any:
    """What is written over what its preset says; anything else as it is."""
    if not isinstance(written, Mapping) or written.get("preset") not in PRESETS:
        return written
    return laid_over(PRESETS[written["preset"]], written)


def laid_over(usual: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """Both; what is written counts, also inside groups of fields."""
    made = {**usual, **written}
    for key in usual.keys() & written.keys():
        if isinstance(usual[key], Mapping) and isinstance(written[key], Mapping):
            made[key] = laid_over(usual[key], written[key])
    return made
