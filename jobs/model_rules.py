"""What must hold between the fields of a model; paths start below its stage."""

from collections.abc import Iterator

from jobs.yaml_source import Keys
from llm.config import ModelConfig, RopeConfig, auto

Findings = Iterator[tuple[Keys, str]]


def of_model(model: ModelConfig) -> Findings:
    """Heads share out the width, and what is set has an effect."""
    width = 64 * model.depth if model.width == auto else model.width
    heads = max(1, width // 64) if model.heads == auto else model.heads
    yield from of_heads(model, width, heads)
    yield from of_positions(model, width)
    if model.family == "decoder":
        yield from of_window(model)
    else:
        yield from of_family(model)
    if model.experts:
        yield from of_experts(model)


def of_heads(model: ModelConfig, width: int, heads: int) -> Findings:
    """Rotary positions turn pairs of a head's features; heads of keys have as many users each."""
    written = "heads" if model.heads != auto else "width"
    if width % heads:
        message = (
            f"{getattr(model, written)} is not allowed; width {width} must divide by heads {heads}"
        )
        yield ("model", written), message
    elif model.positions == "rotary" and width // heads % 2:
        message = f"width {width} / heads {heads} is odd; rotary positions need an even number"
        yield ("model", written), message
    if model.kv_heads != auto and heads % model.kv_heads:
        message = f"{model.kv_heads} is not allowed; must divide the {heads} heads"
        yield ("model", "kv_heads"), message


def of_positions(model: ModelConfig, width: int) -> Findings:
    """Waves come in pairs of features; only rotations have a speed."""
    if model.positions == "sinusoidal" and width % 2:
        yield ("model", "width"), f"{width} is not allowed; sinusoidal positions need an even one"
    if model.positions == "rotary":
        yield from of_rope(model.rope)
    elif model.rope != RopeConfig():
        message = f"has no effect with {model.positions} positions; leave it out"
        yield ("model", "rope"), message


def of_rope(rope: RopeConfig) -> Findings:
    """What a way of stretching needs is there, and nothing else."""
    keys = ("model", "rope")
    if rope.scaling == "none" and rope.factor != 1:
        message = f"{rope.factor:g} has no effect without scaling: linear or llama3"
        yield (*keys, "factor"), message
    if rope.scaling != "llama3":
        return
    if not rope.original_context:
        message = "missing: llama3 needs the tokens of the context that the model was trained with"
        yield (*keys, "original_context"), message
    if rope.low_freq_factor >= rope.high_freq_factor:
        message = (
            f"{rope.low_freq_factor:g} is not allowed; must be less than high_freq_factor "
            f"{rope.high_freq_factor:g}"
        )
        yield (*keys, "low_freq_factor"), message


def of_window(model: ModelConfig) -> Findings:
    """A window is smaller than what it is a window of."""
    if model.window >= model.context:
        message = f"{model.window} has no effect; must be less than context {model.context}, or 0"
        yield ("model", "window"), message


def of_family(model: ModelConfig) -> Findings:
    """What only decoders do."""
    if model.positions == "alibi":
        message = f"alibi is not allowed; only decoders attend by distance, not {named(model)}"
        yield ("model", "positions"), message
    if model.window and model.family != "window":
        message = f"{model.window} has no effect on {named(model)}; leave it out"
        yield ("model", "window"), message
    if model.experts:
        message = f"{model.experts} is not allowed; only decoders have them, not {named(model)}"
        yield ("model", "experts"), message


def named(model: ModelConfig) -> str:
    """an encoder"""
    return f"{'an' if model.family.startswith('e') else 'a'} {model.family}"


def of_experts(model: ModelConfig) -> Findings:
    """There is a choice between them, and their products can be done in groups."""
    if model.experts_per_token > model.experts:
        message = f"{model.experts_per_token} is not allowed; there are {model.experts} experts"
        yield ("model", "experts_per_token"), message
    if model.bias:
        message = "true is not allowed with experts, which have no additive terms; set qkv_bias"
        yield ("model", "bias"), message
    for name in ("width", "hidden"):
        size = getattr(model, name)
        if size != auto and size % 8:
            message = f"{size} is not allowed with experts; must divide by 8"
            yield ("model", name), message
