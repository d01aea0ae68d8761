"""How much of a text is hidden from a model that is to find it out, and the tokens that stand for
it: by arithmetic alone, since the plan counts the rows of embeddings.

A mask (BERT) and sentinels (T5) are no pieces of the tokenizer: their ids lie above its vocabulary
and are rows of the model's embedding. So any tokenizer serves any objective, one serves models that
are compared, and no text that a user writes can encode to them.
"""

from llm.config import ModelConfig

SHARE = 0.15
"""Of tokens that are hidden (Devlin et al. 2019, 3.1; Raffel et al. 2020, 3.1.4)."""

MEAN_SPAN = 3
"""Tokens of a span."""


def rows_of_embedding(model: ModelConfig, vocab: int) -> int:
    """The tokenizer's tokens, and what stands for hidden ones."""
    if model.family == "encoder":
        return vocab + 1
    if model.family == "encoder_decoder" and not model.code:
        return vocab + sentinels(model.context)
    return vocab


def sentinels(context: int) -> int:
    """Those that a row may need: for each span, for one cut in two by a rotation, at the end."""
    return spans_of(context)[1] + 2


def spans_of(length: int) -> tuple[int, int]:
    """Tokens hidden of a text of so many, and in how many spans; some token stays if it can."""
    lost = min(max(1, round(SHARE * length)), max(1, length - 1))
    return lost, min(max(1, round(lost / MEAN_SPAN)), max(1, length - lost))


def read_and_written(model: ModelConfig) -> tuple[float, float]:
    """Tokens that an encoder-decoder reads and writes for every token of text."""
    if model.code:
        return 1.0, 1.0
    lost, spans = spans_of(model.context)
    return 1 - (lost - spans) / model.context, (lost + spans + 1) / model.context
