"""Writing text: one token after the other from a key-value cache, out as whole characters.

While the context has room a step costs one token. Once it is full the window slides: the oldest
token falls out, every position shifts by one, and the window is computed anew, exactly as if the
model were asked for its last `context` tokens each time (a test says so); that costs `context`
tokens per step. Text is held back only while it could still become a stop string.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from llm.attention import KVCache
from llm.config import SamplingConfig
from llm.errors import SpecError
from llm.model import Transformer
from llm.sampling import sample
from llm.tokenizer import Decoder, Tokenizer


@torch.inference_mode()
def generate(
    model: Transformer,
    prompt: list[int],
    sampling: SamplingConfig,
    *,
    end: int | None,
    never: Sequence[int] = (),
) -> Iterator[int]:
    """Up to `max_tokens` tokens that continue `prompt`; stops before `end`, which is not given.

    Of a prompt longer than the context its last `context` tokens count. Precision is the caller's:
    wrap the iteration in autocast or not. Tokens in `never` are not chosen. Draws happen on the
    CPU: same seed, same text anywhere.
    """
    assert prompt, "the prompt is empty: begin with the end-of-text token"
    generator = torch.Generator().manual_seed(sampling.seed)
    context = model.config.context
    window, cache = prompt[-context:], model.cache()
    fresh = window  # tokens that the cache has not seen
    for _ in range(sampling.max_tokens):
        if cache.length + len(fresh) > context:
            cache.reset()
            fresh = window = window[-context:]
        logits = next_logits(model, fresh, cache)
        logits[list(never)] = -torch.inf
        token = sample(logits, sampling, generator)
        if token == end:
            return
        yield token
        fresh = [token]
        window = window + fresh


def next_logits(model: Transformer, ids: list[int], cache: KVCache) -> Tensor:
    """Logits (V,) after the last of `ids`, on the CPU; the model's mode is as it was."""
    training = model.training
    model.eval()
    try:
        batch = torch.tensor([ids], device=model.embedding.weight.device)  # (1, T)
        last = model.features(batch, cache)[0, -1]  # (D,)
        return model.logits(last).float().cpu()
    finally:
        model.train(training)


def write(
    model: Transformer, tokenizer: Tokenizer, prompt: str, sampling: SamplingConfig
) -> Iterator[str]:
    """Text that continues `prompt`, in pieces of whole characters, up to a stop string.

    As documents in training follow an end-of-text token, so does the prompt; it also ends the text.
    A character that `max_tokens` cut off is left out, and so are bytes that make none.
    """
    ids = [tokenizer.eos, *tokenizer.encode(prompt)]
    decoder = Decoder(tokenizer, continues=bool(prompt), broken="ignore")
    stop = StopStrings(sampling.stop)
    never = tokenizer.unwritten
    for token in generate(model, ids, sampling, end=tokenizer.eos, never=never):
        if piece := stop.feed(decoder.feed(token)):
            yield piece
        if stop.found:
            return
    if rest := stop.finish():
        yield rest


class StopStrings:
    """Passes text on up to the first stop string, however the text is cut into pieces."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        if "" in stops:
            raise SpecError(
                f"sampling.stop: {list(stops)} has an empty string, which would end every text "
                "before it begins; remove it (stop: [] lets the model end its text itself)"
            )
        self.stops = stops
        self.held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """What is now certain to come before a stop string."""
        self.held += text
        # The string that is complete first counts, as if text came character by character.
        ends = [(at + len(s), at) for s in self.stops if (at := self.held.find(s)) >= 0]
        if ends:
            self.found = True
            return self.release(min(ends)[1])
        return self.release(len(self.held) - self.unsure())

    def finish(self) -> str:
        """What was held back and did not become a stop string."""
        return "" if self.found else self.release(len(self.held))

    def release(self, count: int) -> str:
        """Takes `count` characters off the held text."""
        text, self.held = self.held[:count], self.held[count:]
        return text

    def unsure(self) -> int:
        """Length of the longest end of the held text that is the beginning of a stop string."""
        begins = [s[:k] for s in self.stops for k in range(1, len(s))]
        return max((len(b) for b in begins if self.held.endswith(b)), default=0)
