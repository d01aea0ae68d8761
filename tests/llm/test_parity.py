"""Every architecture gives the logits of transformers' model with the same weights, in fp32."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm.config import ModelConfig, RopeConfig
from llm.model import Transformer

transformers = pytest.importorskip("transformers")

VOCAB, CONTEXT = 29, 48
NO_IDS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
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
    made = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
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
    }
    return theirs(kind, **(settings | NO_IDS | choices))


def weights_of(model: nn.Module, gradients: bool = False) -> dict[str, Tensor]:
    """Weights or their gradients by name."""
    if gradients:
        return {name: weight.grad for name, weight in model.named_parameters()}  # type: ignore[misc]
    return model.state_dict()


def from_llama(model: nn.Module, gradients: bool = False) -> dict[str, Tensor]:
    """Our names for the weights of Llama and its like, which keep query, key and value apart."""
    state = weights_of(model, gradients)
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


def from_mixtral(model: nn.Module, gradients: bool = False) -> dict[str, Tensor]:
    """Our names for the weights of Mixtral, which keeps gate and up of all experts in one."""
    state = weights_of(model, gradients)
    made = from_llama(model, gradients)
    for layer in range(model.config.num_hidden_layers):
        here, there = f"blocks.{layer}.mlp.", f"model.layers.{layer}.mlp."
        made[here + "router.weight"] = state[there + "gate.weight"]
        both = state[there + "experts.gate_up_proj"]
        made[here + "gate.weight"], made[here + "up.weight"] = both.chunk(2, dim=1)
        made[here + "out.weight"] = state[there + "experts.down_proj"]
    return made


def from_bloom(model: nn.Module) -> dict[str, Tensor]:
    """Our names for the weights of Bloom; it normalises embeddings, which the test makes undone,
    and stores query, key and value head by head."""
    names = {
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "mlp_norm",
        "self_attention.query_key_value": "attention.qkv",
        "self_attention.dense": "attention.out",
        "mlp.dense_h_to_4h": "mlp.up",
        "mlp.dense_4h_to_h": "mlp.out",
    }
    state, heads = model.transformer.state_dict(), model.config.n_head
    made = {
        "embedding.weight": state["word_embeddings.weight"],
        "norm.weight": state["ln_f.weight"],
        "norm.bias": state["ln_f.bias"],
    }
    for layer in range(model.config.n_layer):
        for name, own in names.items():
            for kind in ("weight", "bias"):
                value = state[f"h.{layer}.{name}.{kind}"]
                if own == "attention.qkv":
                    value = value.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)
                made[f"blocks.{layer}.{own}.{kind}"] = value
    return made


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
def test_logits_are_those_of_gpt2(activation: str) -> None:
    other = theirs(
        "GPT2",
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_inner=48,
        activation_function=activation,
        **NO_IDS,
    )
    mlp = {"gelu": "gelu", "gelu_new": "gelu_tanh"}[activation]
    mine = ours(positions="learned", norm="layernorm", mlp=mlp, bias=True)
    same_logits(mine, from_gpt2(other), other)


@pytest.mark.parametrize("heads", [4, 6])
def test_logits_are_those_of_bloom(heads: int) -> None:
    width = 8 * heads
    other = theirs("Bloom", hidden_size=width, n_layer=2, n_head=heads, **NO_IDS)
    other.transformer.word_embeddings_layernorm = nn.Identity()
    mine = ours(
        width=width,
        heads=heads,
        hidden=4 * width,
        positions="alibi",
        norm="layernorm",
        mlp="gelu_tanh",
        bias=True,
    )
    same_logits(mine, from_bloom(other), other)


MIXTRAL = {
    "num_key_value_heads": 2,
    "num_local_experts": 5,
    "num_experts_per_tok": 2,
    "output_router_logits": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
}


def test_logits_are_those_of_mixtral() -> None:
    other = llama_like("Mixtral", **MIXTRAL)
    mine = ours(tied=False, kv_heads=2, experts=5, experts_per_token=2)
    same_logits(mine, from_mixtral(other), other)


def test_mixtrals_loss_and_the_gradient_of_it_and_the_experts_balance() -> None:
    """Of one row and one layer, where their mean over all and ours over rows are the same."""
    other = llama_like("Mixtral", num_hidden_layers=1, router_aux_loss_coef=0.3, **MIXTRAL).train()
    mine = ours(depth=1, tied=False, kv_heads=2, experts=5, experts_per_token=2, balance=0.3)
    mine.load_state_dict(from_mixtral(other))
    mine.train()
    ids, targets = torch.randint(VOCAB, (2, 1, CONTEXT))
    made = other(ids)
    entropy = F.cross_entropy(made.logits[0], targets[0])
    (entropy + 0.3 * made.aux_loss).backward()
    loss = mine(ids, targets) / CONTEXT
    loss.backward()
    torch.testing.assert_close(loss, entropy, atol=1e-5, rtol=0)
    expected = from_mixtral(other, gradients=True)
    for name, parameter in mine.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4)


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
    "mistral": (
        "Mistral",
        {"num_key_value_heads": 2, "sliding_window": 7},
        {"window": 7, "kv_heads": 2},
    ),
    "qwen 2": ("Qwen2", {"num_key_value_heads": 2}, {"kv_heads": 2, "qkv_bias": True}),
    "qwen 3": (
        "Qwen3",
        {"num_key_value_heads": 2, "head_dim": 8},
        {"kv_heads": 2, "qk_norm": True},
    ),
}


@pytest.mark.parametrize("name", LLAMAS)
def test_logits_are_those_of_llama_and_its_like(name: str) -> None:
    kind, their_choices, our_choices = LLAMAS[name]
    other = llama_like(kind, **their_choices)
    same_logits(ours(tied=False, **our_choices), from_llama(other), other)
