"""Every architecture gives the logits of transformers' model with the same weights, in fp32."""

import pytest
import torch
from torch import Tensor, nn

from llm.config import ModelConfig, RopeConfig
from llm.model import Transformer

transformers = pytest.importorskip("transformers")

VOCAB, CONTEXT = 29, 48
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 100.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
OUR_LLAMA3 = RopeConfig(base=100.0, scaling="llama3", factor=8.0, original_context=16)


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def ours(**choices) -> Transformer:
    settings = {"depth": 2, "width": 32, "heads": 4, "hidden": 48, "context": CONTEXT}
    return Transformer(ModelConfig(**(settings | choices)), VOCAB).eval()  # type: ignore[arg-type]


def theirs(kind: str, **choices) -> nn.Module:
    """A model of theirs; fresh weights are small: magnified, so that mistakes show."""
    config = getattr(transformers, f"{kind}Config")(vocab_size=VOCAB, **choices)
    model = getattr(transformers, f"{kind}ForCausalLM" if kind != "GPT2" else "GPT2LMHeadModel")
    made = model(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return made.eval()


def llama_like(kind: str, **choices) -> nn.Module:
    settings = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return theirs(kind, **(settings | choices))


def from_llama(model: nn.Module) -> dict[str, Tensor]:
    """Our names for the weights of Llama and its like, which keep query, key and value apart."""
    state = model.state_dict()
    made = {
        "embedding.weight": state["model.embed_tokens.weight"],
        "norm.weight": state["model.norm.weight"],
        "head.weight": state["lm_head.weight"],
    }
    for layer in range(model.config.num_hidden_layers):
        here, there = f"blocks.{layer}.", f"model.layers.{layer}."
        for kind in ("weight", "bias"):
            parts = [f"{there}self_attn.{one}_proj.{kind}" for one in "qkv"]
            if parts[0] in state:
                qkv = torch.cat([state[part] for part in parts])
                made[f"{here}attention.qkv.{kind}"] = qkv
        for own, name in LLAMA_NAMES.items():
            if there + name in state:
                made[here + own] = state[there + name]
    return made


LLAMA_NAMES = {
    "attention_norm.weight": "input_layernorm.weight",
    "mlp_norm.weight": "post_attention_layernorm.weight",
    "attention.out.weight": "self_attn.o_proj.weight",
    "attention.query_norm.weight": "self_attn.q_norm.weight",
    "attention.key_norm.weight": "self_attn.k_norm.weight",
    "mlp.gate.weight": "mlp.gate_proj.weight",
    "mlp.up.weight": "mlp.up_proj.weight",
    "mlp.out.weight": "mlp.down_proj.weight",
}


def from_gpt2(model: nn.Module) -> dict[str, Tensor]:
    """Our names for the weights of GPT-2, whose linear maps are stored (in, out)."""
    names = {
        "ln_1": "attention_norm",
        "ln_2": "mlp_norm",
        "attn.c_attn": "attention.qkv",
        "attn.c_proj": "attention.out",
        "mlp.c_fc": "mlp.up",
        "mlp.c_proj": "mlp.out",
    }
    state = model.transformer.state_dict()
    made = {
        "embedding.weight": state["wte.weight"],
        "positions.weight": state["wpe.weight"],
        "norm.weight": state["ln_f.weight"],
        "norm.bias": state["ln_f.bias"],
    }
    for layer in range(model.config.n_layer):
        for name, own in names.items():
            for kind in ("weight", "bias"):
                value = state[f"h.{layer}.{name}.{kind}"]
                made[f"blocks.{layer}.{own}.{kind}"] = value.T if value.dim() == 2 else value
    return made


@torch.no_grad()
def same_logits(mine: Transformer, weights: dict[str, Tensor], other: nn.Module) -> None:
    mine.load_state_dict(weights)
    ids = torch.randint(VOCAB, (3, CONTEXT))
    expected = other(ids).logits
    torch.testing.assert_close(mine(ids), expected, atol=1e-4, rtol=0)
    cache = mine.cache(batch=3)
    parts = [mine(part, cache=cache) for part in ids.split([20, 1, 1, 26], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_gpt2(activation: str) -> None:
    other = theirs(
        "GPT2",
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_inner=48,
        activation_function=activation,
        bos_token_id=None,
        eos_token_id=None,
    )
    mlp = {"gelu": "gelu", "gelu_new": "gelu_tanh"}[activation]
    mine = ours(positions="learned", norm="layernorm", mlp=mlp, bias=True)
    same_logits(mine, from_gpt2(other), other)


LLAMAS = {
    "llama": ("Llama", {}, {}),
    "grouped queries": ("Llama", {"num_key_value_heads": 2}, {"kv_heads": 2}),
    "one head of keys": ("Llama", {"num_key_value_heads": 1}, {"kv_heads": 1}),
    "llama 3.1": (
        "Llama",
        {"num_key_value_heads": 2, "rope_parameters": LLAMA3},
        {"kv_heads": 2, "rope": OUR_LLAMA3},
    ),
    "linear": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
        {"rope": RopeConfig(scaling="linear", factor=4.0)},
    ),
    "base and eps": (
        "Llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "rms_norm_eps": 1e-2},
        {"rope": RopeConfig(base=5e5), "norm_eps": 1e-2},
    ),
    "qwen 2": ("Qwen2", {"num_key_value_heads": 2}, {"kv_heads": 2, "qkv_bias": True}),
    "qwen 3": (
        "Qwen3",
        {"num_key_value_heads": 2, "head_dim": 8},
        {"kv_heads": 2, "qk_norm": True},
    ),
}


@pytest.mark.parametrize("name", LLAMAS)
def test_llama_and_its_like(name: str) -> None:
    kind, their_choices, our_choices = LLAMAS[name]
    other = llama_like(kind, **their_choices)
    same_logits(ours(tied=False, **our_choices), from_llama(other), other)
