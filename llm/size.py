"""How large a model is and what it costs: parameters and FLOPs, by arithmetic alone.

The plan prints these numbers before anything runs, so they are worked out from the config without
building a model and without torch; a test holds them against the parameters of a built one.

D width, F hidden features of the MLP, T context, V vocabulary.
"""

from dataclasses import replace
from typing import NamedTuple

from llm.config import GATED, ModelConfig
from llm.hidden import SHARE, read_and_written, rows_of_embedding

SAVED_BYTES = 12
"""Of a parameter: fp32 weight and AdamW's two moments, of which a save makes a copy in the
processor's memory (`llm.saver`)."""


def parameters(model: ModelConfig, vocab: int) -> dict[str, int]:
    """Trainable numbers by part; a tied head costs nothing, fixed positions neither."""
    matrices = matrices_per_layer(model)
    vectors = vectors_per_layer(model)
    norm = model.width * (2 if model.norm == "layernorm" and model.bias else 1)
    parts, rows = parts_of(model), rows_of_embedding(model, vocab)
    learned = model.positions == "learned" and model.family != "window"
    return {
        "token embedding": rows * model.width,
        "positions": parts.stacks * model.context * model.width if learned else 0,
        "window": window_of(model) * model.width
        + (model.width if parts.windows * model.bias else 0),
        "attention": parts.attention * (matrices["attention"] + vectors["attention"]),
        "cross-attention": parts.cross * 4 * model.width * (model.width + model.bias),
        "mlp": parts.mlp * (matrices["mlp"] + vectors["mlp"]),
        "norms": parts.norms * norm,
        "code": 2 * model.code * model.width + (model.code + model.width if model.code else 0),
        "head": 0 if model.tied else rows * model.width,
    }


def active_parameters(model: ModelConfig, vocab: int) -> int:
    """Numbers that take part in a token's prediction: all but the experts it does not go to."""
    idle = matrices_per_layer(model)["mlp"] - active_per_layer(model)["mlp"]
    return sum(parameters(model, vocab).values()) - model.depth * idle


class Parts(NamedTuple):
    """How many of each a family of models has."""

    stacks: int
    attention: int
    mlp: int
    norms: int
    cross: int = 0
    windows: int = 0


def parts_of(model: ModelConfig) -> Parts:
    """A window of tokens stands in place of attention; a decoder that looks back has two sides."""
    depth = model.depth
    if model.family == "window":
        return Parts(0, 0, depth, depth + 1, windows=1)
    if model.family == "encoder_decoder":
        return Parts(2, 2 * depth, 2 * depth, 5 * depth + 2, cross=depth)
    return Parts(1, depth, depth, 2 * depth + 1)


def window_of(model: ModelConfig) -> int:
    """Features that a feed-forward network sees at once."""
    return model.window * model.width if model.family == "window" else 0


def matrices_per_layer(model: ModelConfig) -> dict[str, int]:
    """Weights of one layer's linear maps, all experts' with their router."""
    mlp = mlp_matrices(model)
    if model.experts:
        mlp = model.experts * (mlp + model.width)
    return {"attention": model.width * (qkv_rows(model) + model.width), "mlp": mlp}


def active_per_layer(model: ModelConfig) -> dict[str, int]:
    """Weights of one layer that a token is multiplied by."""
    matrices = matrices_per_layer(model)
    if model.experts:
        chosen = model.experts_per_token * mlp_matrices(model)
        matrices["mlp"] = chosen + model.experts * model.width
    return matrices


def mlp_matrices(model: ModelConfig) -> int:
    """Weights of an MLP, or of one expert."""
    in_and_out = 3 if model.mlp in GATED else 2  # gate, value, output
    return in_and_out * model.width * model.hidden


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
    token with S others and mixes as many, 12 D S per layer; S is T / 2 with a causal mask (Kaplan
    et al. 2020, table 1; PaLM 2022, appendix B counts it unhalved), less in a window.
    """
    if model.family != "decoder":
        return round(flops_of_family(model, vocab))
    weights = model.depth * sum(active_per_layer(model).values()) + vocab * model.width
    return 6 * weights + round(12 * model.depth * model.width * keys_seen(model))


def keys_seen(model: ModelConfig) -> float:
    """Tokens that a token sees, in the mean over a context, as the area under the diagonal."""
    window = min(model.window or model.context, model.context)
    return window - window * window / (2 * model.context)


def flops_of_family(model: ModelConfig, vocab: int) -> float:
    """The same for other families: what is not hidden needs no head, an encoder sees all of T."""
    layer, width, seen = active_per_layer(model), model.width, 12 * model.width * model.context
    head = rows_of_embedding(model, vocab) * width
    match model.family:
        case "window":
            return 6 * (window_of(model) * width + model.depth * layer["mlp"] + head)
        case "encoder":
            return 6 * (model.depth * sum(layer.values()) + SHARE * head) + model.depth * seen
        case _:
            read, written = read_and_written(model)
            crossing = 2 * width * width * (read + written)
            weights = model.depth * (sum(layer.values()) * (read + written) + crossing)
            pairs = 0.0 if model.code else read * read + written * read + written * written / 2
            return 6 * (weights + written * head) + model.depth * seen * pairs


def like_decoder(model: ModelConfig) -> ModelConfig:
    """The decoder that takes at least the memory and the time of a model of another family."""
    sides = 2 if model.family == "encoder_decoder" else 1
    return replace(model, family="decoder", depth=sides * model.depth, code=0)
