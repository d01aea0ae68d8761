"""How large a model is and what it costs: parameters, FLOPs and bytes, by arithmetic alone.

The plan prints these numbers before anything runs, so they are worked out from the config without
building a model and without torch; a test holds them against the parameters of a built one.

D width, F hidden features of the MLP, T context, V vocabulary.
"""

from llm.config import ModelConfig

SAVED_BYTES = 12
"""Of a parameter: fp32 weight and AdamW's two moments, of which a save makes a copy in the
processor's memory (`llm.saver`)."""


def parameters(model: ModelConfig, vocab: int) -> dict[str, int]:
    """Trainable numbers by part; a tied head costs nothing, fixed positions neither."""
    matrices = matrices_per_layer(model)
    biases = biases_per_layer(model)
    norm = model.width * (2 if model.norm == "layernorm" and model.bias else 1)
    return {
        "token embedding": vocab * model.width,
        "positions": model.context * model.width if model.positions == "learned" else 0,
        "attention": model.depth * (matrices["attention"] + biases["attention"]),
        "mlp": model.depth * (matrices["mlp"] + biases["mlp"]),
        "norms": (2 * model.depth + 1) * norm,
        "head": 0 if model.tied else vocab * model.width,
    }


def matrices_per_layer(model: ModelConfig) -> dict[str, int]:
    """Weights of one layer that every token is multiplied by."""
    in_and_out = 3 if model.mlp == "swiglu" else 2  # swiglu: gate, value, output
    return {
        "attention": 4 * model.width * model.width,  # query, key, value, output
        "mlp": in_and_out * model.width * model.hidden,
    }


def biases_per_layer(model: ModelConfig) -> dict[str, int]:
    """Additive terms of one layer's linear maps."""
    if not model.bias:
        return {"attention": 0, "mlp": 0}
    inner = 2 if model.mlp == "swiglu" else 1
    return {"attention": 4 * model.width, "mlp": inner * model.hidden + model.width}


def flops_per_token(model: ModelConfig, vocab: int) -> int:
    """FLOPs that training spends on one token: forward 2 per weight, backward twice as much.

    The head multiplies even when it is tied; the embedding only looks up. Attention compares a
    token with all T and mixes as many, 12 D T per layer, of which the causal mask needs half
    (Kaplan et al. 2020, table 1; PaLM 2022, appendix B counts it unhalved).
    """
    weights = model.depth * sum(matrices_per_layer(model).values()) + vocab * model.width
    attention = 6 * model.depth * model.width * model.context
    return 6 * weights + attention


def bytes_per_worker(
    model: ModelConfig, vocab: int, micro_batch: int, bf16: bool, gpu: bool
) -> dict[str, int]:
    """Estimate of the memory that training takes: fp32 master weights and AdamW's two moments.

    What a save copies counts where the model is in the processor's memory, too.
    """
    count = sum(parameters(model, vocab).values())
    tokens = micro_batch * model.context
    compute = 2 if bf16 else 4
    return {
        "weights": count * (4 + (2 if bf16 else 0)),  # autocast keeps a bf16 copy during a step
        "gradients": 4 * count,
        "optimizer": 8 * count,
        "activations": tokens * model.depth * layer_bytes_per_token(model, compute),
        "logits": tokens * vocab * (4 + compute),  # log probabilities, and the gradient
        "saving": 0 if gpu else SAVED_BYTES * count,
    }


def layer_bytes_per_token(model: ModelConfig, compute: int) -> int:
    """What one layer keeps of a token for the backward pass; `compute` bytes per number.

    fp32: the residual stream before both norms. In compute precision: what enters the four linear
    maps, query, key and value, and what the non-linearity of the MLP needs.
    """
    residual = 2 * 4 * model.width
    attention = 6 * model.width * compute  # normed, query, key, value, mixed; normed for the MLP
    inner = (4 if model.mlp == "swiglu" else 2) * model.hidden * compute
    return residual + attention + inner
