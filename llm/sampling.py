"""From logits to the next token: temperature, then top-k, then top-p, then min-p, then a draw.

Each filter sees what the one before it left, with probabilities renormalised (the order of
transformers). A filter returns logits in which dropped tokens are -inf; softmax does the rest.
The most probable token always survives, so there is always something to draw.

V vocabulary; logits are (V,) or (B, V).
"""

import torch
from torch import Tensor

from llm.config import SamplingConfig


def sample(logits: Tensor, config: SamplingConfig, generator: torch.Generator) -> int:
    """The next token for logits (V,); temperature 0 is argmax and draws nothing."""
    if config.temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial(probabilities(logits, config), 1, generator=generator))


def probabilities(logits: Tensor, config: SamplingConfig) -> Tensor:
    """The distribution that is drawn from, for a temperature above 0: (..., V) in fp32."""
    logits = heated(logits.float(), config.temperature)
    if config.top_k:
        logits = keep_top_k(logits, config.top_k)
    if config.top_p < 1:
        logits = keep_top_p(logits, config.top_p)
    if config.min_p:
        logits = keep_min_p(logits, config.min_p)
    return logits.softmax(-1)


def heated(logits: Tensor, temperature: float) -> Tensor:
    """Logits / temperature, shifted to a maximum of 0 so that tiny temperatures do not overflow."""
    return (logits - logits.amax(-1, keepdim=True)) / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """The k most probable tokens, exactly k even among equals."""
    values, tokens = logits.topk(min(k, logits.size(-1)))
    return torch.full_like(logits, -torch.inf).scatter(-1, tokens, values)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The fewest most probable tokens whose probabilities reach p (Holtzman et al. 2019)."""
    values, tokens = logits.sort(descending=True, stable=True)
    share = values.softmax(-1)
    reached = share.cumsum(-1) - share >= p  # by the tokens before this one; never by none
    return torch.empty_like(logits).scatter(-1, tokens, values.masked_fill(reached, -torch.inf))


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Tokens at least `share` times as probable as the most probable one (Nguyen et al. 2024)."""
    share_of_best = (logits - logits.amax(-1, keepdim=True)).exp()
    return logits.masked_fill(share_of_best < share, -torch.inf)
