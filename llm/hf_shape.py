"""A `ModelConfig` as config.json of transformers; the way back is llm/hf_config.py.

What computes exactly the same, and nothing that is merely similar:

| ours | theirs |
|---|---|
| learned positions, layer norms, a plain MLP | GPT2LMHeadModel (missing biases are zeros) |
| rotary positions, RMS norms, a gated MLP | LlamaForCausalLM |
| ... with biases of queries, keys and values alone | Qwen2ForCausalLM |
| ... with queries and keys normalised | Qwen3ForCausalLM |
| ... with a sliding window | MistralForCausalLM |
| ... with experts | MixtralForCausalLM |
"""

from pathlib import Path
from typing import Any, Literal

from llm.config import ModelConfig, RopeConfig
from llm.errors import ArtifactError

Json = dict[str, Any]

Family = Literal["gpt2", "llama", "qwen2", "qwen3", "mistral", "mixtral"]

ARCHITECTURES: dict[Family, str] = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
}
"""By transformers' `model_type`."""

CLASSIFIERS: dict[Family, str] = {
    "gpt2": "GPT2ForSequenceClassification",
    "llama": "LlamaForSequenceClassification",
    "qwen2": "Qwen2ForSequenceClassification",
    "qwen3": "Qwen3ForSequenceClassification",
    "mistral": "MistralForSequenceClassification",
    "mixtral": "MixtralForSequenceClassification",
}
"""The same with a score in place of the next token: reward models."""

GATED = {"silu": "swiglu", "swish": "swiglu", "gelu_pytorch_tanh": "geglu", "gelu_new": "geglu"}
PLAIN = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}
"""Their names of non-linearities, and what a gated or a plain MLP with one is here."""


def fitting_family(model: ModelConfig, where: Path | str) -> Family:
    """The architecture that computes exactly what a model does; ArtifactError if there is none.

    where: what the error names: a file, or a stage.
    """

    def need(name: str, *allowed: Any, because: str) -> None:
        value = getattr(model, name)
        if value not in allowed:
            raise ArtifactError(
                f"{where}: {name} {value!r} has no counterpart in transformers {because}; allowed: "
                f"{', '.join(map(repr, allowed))}; train a model with one of these to export it"
            )

    need("family", "decoder", because="that is written here")
    need("positions", "rotary", "learned", because="among decoders")
    if model.experts:
        beside = "beside experts (Mixtral)"
        need("positions", "rotary", because=beside)
        need("mlp", "swiglu", because=beside)
        need("qk_norm", False, because=beside)
    if model.positions == "learned":
        beside = "beside learned positions (GPT-2)"
        need("norm", "layernorm", because=beside)
        need("mlp", *dict.fromkeys(PLAIN.values()), because=beside)
        need("kv_heads", model.heads, because=beside)
        need("qk_norm", False, because=beside)
        need("window", 0, because=beside)
        return "gpt2"
    beside = "beside rotary positions (Llama and its sisters)"
    need("norm", "rmsnorm", because=beside)
    need("mlp", *dict.fromkeys(GATED.values()), because=beside)
    if model.qk_norm:
        beside = "beside qk_norm (Qwen 3)"
        need("bias", False, because=beside)
        need("qkv_bias", False, because=beside)
        need("window", 0, because=beside)
        return "qwen3"
    if model.window or model.experts:
        beside = "beside a window (Mistral) or experts (Mixtral)"
        need("bias", False, because=beside)
        need("qkv_bias", False, because=beside)
        return "mixtral" if model.experts else "mistral"
    need("qkv_bias", *((True,) if model.bias else (True, False)), because="beside bias (Llama)")
    return "qwen2" if model.qkv_bias and not model.bias else "llama"


def require_known(model: ModelConfig, family: Family, where: Path | str) -> None:
    """Refuse what transformers can compute and llama.cpp cannot."""
    wanted = {"mlp": "gelu_tanh" if family == "gpt2" else "swiglu", "window": 0, "experts": 0}
    for name, allowed in wanted.items():
        if (value := getattr(model, name)) != allowed:
            raise ArtifactError(
                f"{where}: {name} {value!r} has no counterpart in llama.cpp beside "
                f"{model.positions} positions; allowed: {allowed!r}; write format: transformers"
            )


def config_of(model: ModelConfig, family: Family, vocab_size: int) -> Json:
    """config.json without the ids of tokens and the type of numbers."""
    common = {
        "architectures": [ARCHITECTURES[family]],
        "model_type": family,
        "vocab_size": vocab_size,
        "tie_word_embeddings": model.tied,
    }
    return common | (gpt2_config(model) if family == "gpt2" else llama_config(model, family))


def gpt2_config(model: ModelConfig) -> Json:
    """What is called otherwise in GPT-2."""
    names = {kind: name for name, kind in reversed(PLAIN.items())}
    return {
        "n_embd": model.width,
        "n_layer": model.depth,
        "n_head": model.heads,
        "n_inner": model.hidden,
        "n_positions": model.context,
        "layer_norm_epsilon": model.norm_eps,
        "activation_function": names[model.mlp],
        "attn_pdrop": model.dropout,
        "embd_pdrop": model.dropout,
        "resid_pdrop": model.dropout,
    }


def llama_config(model: ModelConfig, family: Family) -> Json:
    """Llama and its sisters."""
    names = {kind: name for name, kind in reversed(GATED.items())}
    bias = {"attention_bias": model.bias, "mlp_bias": model.bias} if family == "llama" else {}
    return {
        "hidden_size": model.width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.width // model.heads,
        "intermediate_size": model.hidden,
        "max_position_embeddings": model.context,
        "rms_norm_eps": model.norm_eps,
        "hidden_act": names[model.mlp],
        "rope_theta": model.rope.base,
        "rope_scaling": scaling_of(model.rope),
        "attention_dropout": model.dropout,
        **({"sliding_window": model.window or None} if family in ("mistral", "mixtral") else {}),
        **bias,
        **(experts_config(model) if model.experts else {}),
    }


def experts_config(model: ModelConfig) -> Json:
    """Mixtral's many MLPs."""
    return {
        "num_local_experts": model.experts,
        "num_experts_per_tok": model.experts_per_token,
        "router_aux_loss_coef": model.balance,
    }


def scaling_of(rope: RopeConfig) -> Json | None:
    """How rotary positions are stretched; as transformers 4 writes it, which 5 reads."""
    if rope.scaling == "none":
        return None
    if rope.scaling == "linear":
        return {"rope_type": "linear", "factor": rope.factor}
    return {
        "rope_type": "llama3",
        "factor": rope.factor,
        "low_freq_factor": rope.low_freq_factor,
        "high_freq_factor": rope.high_freq_factor,
        "original_max_position_embeddings": rope.original_context,
    }
