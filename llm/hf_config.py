"""config.json of transformers as a `ModelConfig`; plain JSON, transformers is not needed.

Every field that decides what is computed is understood, or refused by its name. What computes the
same as what is told at the top of llm/hf_shape.py.
"""

import math
from pathlib import Path
from typing import Any, NoReturn

from llm.config import ModelConfig, RopeConfig
from llm.errors import ArtifactError
from llm.hf_shape import ARCHITECTURES, GATED, PLAIN, Family, Json


class Fields:
    """A config.json, each of whose fields is understood or refused by name."""

    def __init__(self, values: Json, path: Path) -> None:
        self.values, self.path = values, path

    def get(self, name: str, default: Any = None) -> Any:
        """A field, or what transformers takes if it is missing or null."""
        value = self.values.get(name)
        return default if value is None else value

    def refuse(self, name: str, value: Any, allowed: str) -> NoReturn:
        """Say what is not supported."""
        raise ArtifactError(
            f"{self.path}: {name} {value!r} is not supported; allowed: {allowed}; import a model "
            "that has it, or leave this one to transformers"
        )

    def count(self, name: str, default: int | None = None) -> int:
        """A number that has to be there and positive."""
        value = self.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.refuse(name, value, "a whole number above 0")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A number above 0."""
        value = self.get(name, default)
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not 0 < value < math.inf:
            self.refuse(name, value, "a number above 0")
        return float(value)

    def one_of(self, name: str, default: str, choices: dict[str, str]) -> Any:
        """What a word stands for here."""
        value = self.get(name, default)
        if value not in choices:
            self.refuse(name, value, ", ".join(choices))
        return choices[value]

    def demand(self, name: str, wanted: Any) -> None:
        """A field that may only be as it is by default."""
        if (value := self.get(name, wanted)) != wanted:
            self.refuse(name, value, repr(wanted))


def family_of(fields: Fields) -> Family:
    """Which of the known architectures it is."""
    kind, named = fields.get("model_type"), fields.get("architectures", [])
    if kind not in ARCHITECTURES:
        fields.refuse("model_type", kind, ", ".join(ARCHITECTURES))
    if named and ARCHITECTURES[kind] not in named:
        fields.refuse("architectures", named, ARCHITECTURES[kind])
    if "auto_map" in fields.values and not named:
        fields.refuse("auto_map", fields.values["auto_map"], "no code of its own")
    fields.demand("quantization_config", None)
    return kind


def shape_of(values: Json, path: Path, context: int = 0) -> tuple[Family, ModelConfig]:
    """The model that a config.json describes; ArtifactError for what cannot be computed here.

    context: tokens that it is to see at once; 0: as many as it was made for.
    """
    fields = Fields(values, path)
    family = family_of(fields)
    most = fields.count("n_positions" if family == "gpt2" else "max_position_embeddings")
    if context > most:
        raise ArtifactError(
            f"{path}: context {context} is not allowed; the model was made for {most} tokens: "
            "leave it out, or give fewer"
        )
    make = gpt2_shape if family == "gpt2" else llama_shape
    return family, make(fields, context or most)


def gpt2_shape(fields: Fields, context: int) -> ModelConfig:
    """GPT-2 and its sisters."""
    fields.demand("scale_attn_weights", True)
    fields.demand("scale_attn_by_inverse_layer_idx", False)
    fields.demand("add_cross_attention", False)
    width, heads = fields.count("n_embd"), fields.count("n_head")
    require_heads(fields, "n_head", width, heads)
    return ModelConfig(
        depth=fields.count("n_layer"),
        width=width,
        heads=heads,
        kv_heads=heads,
        hidden=fields.count("n_inner", 4 * width),
        context=context,
        positions="learned",
        norm="layernorm",
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        mlp=fields.one_of("activation_function", "gelu_new", PLAIN),
        bias=True,
        qkv_bias=True,
        tied=bool(fields.get("tie_word_embeddings", True)),
    )


def llama_shape(fields: Fields, context: int) -> ModelConfig:
    """Llama, Qwen 2 and 3, Mistral, Mixtral."""
    family = family_of(fields)
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    kv_heads = fields.count("num_key_value_heads", heads)
    require_heads(fields, "num_attention_heads", width, heads)
    if heads % kv_heads:
        fields.refuse("num_key_value_heads", kv_heads, f"what {heads} heads divide by")
    if (features := fields.get("head_dim", width // heads)) != width // heads:
        fields.refuse("head_dim", features, f"hidden_size / num_attention_heads = {width // heads}")
    bias = bias_of(fields, family)
    return ModelConfig(
        depth=fields.count("num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        hidden=fields.count("intermediate_size"),
        context=context,
        positions="rotary",
        rope=rope_of(fields),
        norm="rmsnorm",
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        mlp=fields.one_of("hidden_act", "silu", GATED),
        bias=bias,
        qkv_bias=bias or family == "qwen2",
        qk_norm=family == "qwen3",
        tied=bool(fields.get("tie_word_embeddings", False)),
        window=window_of(fields, family, context),
        **(experts_of(fields) if family == "mixtral" else {}),
    )


def experts_of(fields: Fields) -> Json:
    """Mixtral's many MLPs."""
    each, count = fields.count("num_experts_per_tok", 2), fields.count("num_local_experts", 8)
    if each > count:
        fields.refuse("num_experts_per_tok", each, f"{count} at most, as num_local_experts says")
    fields.demand("router_jitter_noise", 0.0)
    priced = fields.get("router_aux_loss_coef", 0.001) != 0
    balance = fields.number("router_aux_loss_coef", 0.001) if priced else 0.0
    return {"experts": count, "experts_per_token": each, "balance": balance}


def require_heads(fields: Fields, name: str, width: int, heads: int) -> None:
    """Heads share out the width."""
    if width % heads:
        fields.refuse(name, heads, f"what the width {width} divides by")


def bias_of(fields: Fields, family: Family) -> bool:
    """Whether all maps have additive terms; of Qwen 2 only those to queries, keys and values."""
    if family != "llama":
        fields.demand("attention_bias", False)
        return False
    attention, mlp = (bool(fields.get(name, False)) for name in ("attention_bias", "mlp_bias"))
    if attention != mlp:
        fields.refuse("mlp_bias", mlp, f"{attention}, as attention_bias says")
    return attention


def window_of(fields: Fields, family: Family, context: int) -> int:
    """Tokens that a token sees, itself included; 0: all. The same in every layer."""
    kinds = set(fields.get("layer_types", []))
    if family == "llama" or kinds == {"full_attention"}:
        return 0
    if family in ("qwen2", "qwen3"):
        if not fields.get("use_sliding_window", False):
            return 0
        if not kinds and fields.get("max_window_layers", 28) > 0:
            fields.refuse("max_window_layers", fields.get("max_window_layers", 28), "0")
    if kinds - {"sliding_attention"}:
        fields.refuse("layer_types", sorted(kinds), "one kind for all layers")
    window = int(fields.get("sliding_window", 0))
    return window if window < context else 0


def rope_of(fields: Fields) -> RopeConfig:
    """Rotary positions, as transformers 4 and 5 write them."""
    scaling = {**(fields.get("rope_scaling") or {}), **(fields.get("rope_parameters") or {})}
    rope = Fields({**fields.values, **scaling}, fields.path)
    base = rope.number("rope_theta", 10_000.0)
    rope.demand("partial_rotary_factor", 1.0)
    kind = rope.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return RopeConfig(base=base)
    if kind == "linear":
        return RopeConfig(base=base, scaling="linear", factor=rope.number("factor"))
    if kind != "llama3":
        rope.refuse("rope_type", kind, "default, linear, llama3")
    return RopeConfig(
        base=base,
        scaling="llama3",
        factor=rope.number("factor"),
        original_context=rope.count("original_max_position_embeddings"),
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
    )
