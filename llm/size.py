"""How large a model is and what it costs: parameters and FLOPs, by arithmetic alone.

The plan prints these numbers before anything runs, so they are worked out from the config without
building a model and without torch; a test holds them against the parameters of a built one.

D width, F hidden features of the MLP, T context, V vocabulary.
"""

from llm.config import GATED, ModelConfig, OptimConfig

SAVED_BYTES = 12
"""Of a parameter: fp32 weight and AdamW's two moments, of which a save makes a copy in the
processor's memory (`llm.saver`)."""


def kept_by(optim: OptimConfig, model: ModelConfig, vocab: int) -> float:
    """Numbers that an optimizer keeps of a parameter, fp32 each, with those of the average.

    Muon has one moment of matrices inside layers, Adafactor only sums over rows and columns.
    """
    moments = {"adamw": 2.0, "muon": 2.0, "lion": 1.0, "adafactor": 0.0}[optim.kind]
    if optim.kind == "muon":
        inside = model.depth * sum(matrices_per_layer(model).values())
        moments -= inside / sum(parameters(model, vocab).values())
    return moments + (optim.ema > 0)


def parameters(model: ModelConfig, vocab: int) -> dict[str, int]:
    """Trainable numbers by part; a tied head costs nothing, fixed positions neither."""
    matrices = matrices_per_layer(model)
    vectors = vectors_per_layer(model)
    norm = model.width * (2 if model.norm == "layernorm" and model.bias else 1)
    return {
        "token embedding": vocab * model.width,
        "positions": model.context * model.width if model.positions == "learned" else 0,
        "attention": model.depth * (matrices["attention"] + vectors["attention"]),
        "mlp": model.depth * (matrices["mlp"] + vectors["mlp"]),
        "norms": (2 * model.depth + 1) * norm,
        "head": 0 if model.tied else vocab * model.width,
    }


def matrices_per_layer(model: ModelConfig) -> dict[str, int]:
    """Weights of one layer that every token is multiplied by."""
    in_and_out = 3 if model.mlp in GATED else 2  # gate, value, output
    return {
        "attention": model.width * (qkv_rows(model) + model.width),
        "mlp": in_and_out * model.width * model.hidden,
    }


def qkv_rows(model: ModelConfig) -> int:
    """Numbers in the queries, keys and values of a token."""
    return (model.heads + 2 * model.kv_heads) * (model.width // model.heads)


def vectors_per_layer(model: ModelConfig) -> dict[str, int]:
    """Additive terms of one layer's linear maps, and the scales of normed queries and keys."""
    inner = 2 if model.mlp in GATED else 1
    return {
        "attention": (qkv_rows(model) if model.qkv_bias else 0)
        + (model.width if model.bias else 0)
        + (2 * (model.width // model.heads) if model.qk_norm else 0),
        "mlp": inner * model.hidden + model.width if model.bias else 0,
    }


def flops_per_token(model: ModelConfig, vocab: int) -> int:
    """FLOPs that training spends on one token: forward 2 per weight, backward twice as much.

    The head multiplies even when it is tied; the embedding only looks up. Attention compares a
    token with all T and mixes as many, 12 D T per layer, of which the causal mask needs half
    (Kaplan et al. 2020, table 1; PaLM 2022, appendix B counts it unhalved).
    """
    weights = model.depth * sum(matrices_per_layer(model).values()) + vocab * model.width
    attention = 6 * model.depth * model.width * model.context
    return 6 * weights + attention
