"""What a model writes behind many prompts at once, always the likeliest token, up to a stop text.

As llm/rollout.py writes: all prompts are read in one padded batch, then each step writes a token
per text, and a text that has ended leaves the batch. Of a prompt that leaves no room for what is
written the oldest tokens are left out, as lm-eval does.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from llm.chat import Template
from llm.generate import StopStrings
from llm.model import Transformer
from llm.ppo_math import forbid
from llm.rollout import Page
from llm.tokenizer import Decoder, Tokenizer
from llm.world import Precision
from llm.writer import Writer

ROOM_TOKENS = 32_768
"""Tokens of all texts that are written together, with their prompts."""

Ends = Callable[[int, list[int]], bool]
"""Whether a text, by its number, ends with these tokens."""


class Manner(NamedTuple):
    """How a model goes on: with so many tokens at most, or up to one of some texts."""

    tokens: int
    stop: tuple[str, ...] = ()


def continuations(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[list[int]],
    manner: Manner,
    template: Template | None,
    precision: Precision = "fp32",
) -> list[str]:
    """Texts behind the prompts; what ends them is left out. `template`: of a model that talks."""
    stop = manner.stop
    end = {tokenizer.eos} | ({template.end} if template else set())
    never = template.never if template else tokenizer.unwritten
    never = tuple(id for id in never if id not in end)

    def ends(number: int, ids: list[int]) -> bool:
        return ids[-1] in end or (bool(stop) and found(shown(tokenizer, ids), stop))

    written = greedy(model, prompts, manner.tokens, ends, never, precision)
    texts = (shown(tokenizer, [id for id in ids if id not in end]) for ids in written)
    return [up_to(text, stop) for text in texts]


def shown(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The text of tokens that go on from others; half a character at the end is left out."""
    decoder = Decoder(tokenizer, continues=True, broken="ignore")
    return "".join(map(decoder.feed, ids))


def found(text: str, stop: tuple[str, ...]) -> bool:
    """Whether a text holds a stop text."""
    return any(one in text for one in stop)


def up_to(text: str, stop: tuple[str, ...]) -> str:
    """A text up to the first stop text."""
    strings = StopStrings(stop)
    return strings.feed(text) + strings.finish()


def greedy(
    model: Transformer,
    prompts: Sequence[list[int]],
    most: int,
    ends: Ends,
    never: Sequence[int],
    precision: Precision = "fp32",
) -> list[list[int]]:
    """The likeliest tokens behind each prompt, `most` at most, the one that ends it included."""
    context = model.config.context
    most = min(most, context - 1)
    cut = [prompt[-(context - most) :] for prompt in prompts]
    writer = Writer(model, precision)
    written: list[list[int]] = [[] for _ in prompts]
    for part in together(cut, most):
        write_part(writer, cut, part, most, ends, never, written)
    return written


def together(prompts: Sequence[list[int]], most: int) -> Iterator[list[int]]:
    """Numbers of prompts of like length, the longest first."""
    part: list[int] = []
    for number in sorted(range(len(prompts)), key=lambda i: -len(prompts[i])):
        if part and (len(part) + 1) * (len(prompts[part[0]]) + most) > ROOM_TOKENS:
            yield part
            part = []
        part.append(number)
    if part:
        yield part


@torch.inference_mode()
def write_part(
    writer: Writer,
    prompts: Sequence[list[int]],
    part: list[int],
    most: int,
    ends: Ends,
    never: Sequence[int],
    written: list[list[int]],
) -> None:
    """Write behind some prompts, each into its place in `written`."""
    page = Page([prompts[number] for number in part], most)
    slots = writer.slots(len(part), page.ids.size(1))
    logits = writer.read(*page.prompts(writer.device), slots)
    rows = list(part)
    for step in range(most):
        tokens = forbid(logits.float(), never).argmax(-1).cpu()
        for number, token in zip(rows, tokens.tolist(), strict=True):
            written[number].append(token)
        staying = torch.tensor([not ends(number, written[number]) for number in rows])
        if step + 1 == most or not staying.any():
            return
        if not staying.all():
            order = slots.leave(staying.to(writer.device)).cpu()
            rows, tokens = [rows[i] for i in order.tolist()], tokens[order]
        logits = writer.write(tokens.to(writer.device), slots)
