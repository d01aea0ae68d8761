"""What a model makes of a prompt, whatever its family: it writes on, fills in, or gives back.

`[MASK]` stands in a prompt for what is to be filled in: for an encoder a token each, the surest
first, each guess being seen by the next; for an encoder-decoder a gap of any length. An autoencoder
gives back a prompt's words, each from its code.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from llm.config import SamplingConfig
from llm.encoder import Encoder
from llm.encoder_decoder import EncoderDecoder
from llm.errors import SpecError
from llm.evaluate import evaluating
from llm.families import Network
from llm.generate import write
from llm.pairs import Pairs
from llm.sampling import sample
from llm.spans import gaps_in
from llm.spelling import letters, word_pairs, words_in
from llm.tokenizer import SPACE, Tokenizer

GAP = "[MASK]"


def complete(
    model: Network, tokenizer: Tokenizer, prompt: str, sampling: SamplingConfig
) -> Iterator[str]:
    """The text in pieces: what follows the prompt, or the prompt with its gaps filled."""
    if isinstance(model, EncoderDecoder):
        made = give_words_back if model.config.code else fill_gaps
        yield made(model, tokenizer, prompt, sampling)
    elif isinstance(model, Encoder):
        yield fill_masks(model, tokenizer, prompt, sampling)
    else:
        yield from write(model, tokenizer, prompt, sampling)


def writes_on(model: Network) -> bool:
    """Whether its text follows the prompt, rather than taking its place."""
    return not isinstance(model, EncoderDecoder | Encoder)


# -- gaps in a prompt ------------------------------------------------------------------------------


def around_gaps(tokenizer: Tokenizer, prompt: str, context: int, most: int) -> list[list[int]]:
    """The tokens before, between and behind the gaps.

    Where tokens begin with the space before them, that of a gap belongs to what is filled in.
    """
    parts = prompt.split(GAP)
    if len(parts) == 1:
        raise SpecError(f"prompt: {prompt!r} has no gap to be filled; write {GAP} where one is")
    if len(parts) - 1 > most:
        raise SpecError(f"prompt: {len(parts) - 1} gaps, but this model knows at most {most}")
    if any(len(piece) > 1 and piece[0] == SPACE for piece in tokenizer.plain_pieces()):
        parts = [*(part.removesuffix(" ") for part in parts[:-1]), parts[-1]]
    ids = tokenizer.encode_batch(parts)
    tokens = 1 + sum(map(len, ids)) + len(ids) - 1
    if tokens > context:
        raise SpecError(f"prompt: {tokens} tokens, but this model sees {context}; shorten it")
    return ids


@torch.inference_mode()
def fill_masks(model: Encoder, tokenizer: Tokenizer, prompt: str, sampling: SamplingConfig) -> str:
    """A prompt with a token in each of its gaps."""
    context = model.config.context
    first, *rest = around_gaps(tokenizer, prompt, context, context)
    ids = [tokenizer.eos, *first]
    for part in rest:
        ids += [model.mask, *part]
    generator = torch.Generator().manual_seed(sampling.seed)
    never = [*tokenizer.unwritten, tokenizer.eos, model.mask]
    with evaluating(model):
        while open_places := [place for place, id in enumerate(ids) if id == model.mask]:
            features = model.features(on_device(model, [ids]))[0, open_places]
            logits = model.logits(features).float().cpu()  # (gaps, V)
            logits[:, never] = -torch.inf
            surest = int(logits.softmax(-1).amax(-1).argmax())
            ids[open_places[surest]] = sample(logits[surest], sampling, generator)
    return tokenizer.decode(ids[1:])


@torch.inference_mode()
def fill_gaps(
    model: EncoderDecoder, tokenizer: Tokenizer, prompt: str, sampling: SamplingConfig
) -> str:
    """A prompt with a token or more in each of its gaps, `max_tokens` in all."""
    context, sentinel = model.config.context, model.first_sentinel
    parts = around_gaps(tokenizer, prompt, context, model.vocab_size - sentinel - 1)
    ids = [tokenizer.eos, *parts[0]]
    for number, part in enumerate(parts[1:]):
        ids += [sentinel + number, *part]
    gaps = gaps_in(written_for(model, tokenizer, ids, len(parts) - 1, sampling), sentinel)
    whole = list(parts[0])
    for number, part in enumerate(parts[1:]):
        whole += [*gaps.get(number, []), *part]
    return tokenizer.decode(whole)


def written_for(
    model: EncoderDecoder,
    tokenizer: Tokenizer,
    ids: list[int],
    gaps: int,
    sampling: SamplingConfig,
) -> list[int]:
    """Sentinels in their order, and tokens behind each of them, as many for every gap at most."""
    sentinel, end = model.first_sentinel, tokenizer.eos
    room = max(1, min(sampling.max_tokens, model.config.context - gaps - 2) // gaps)
    generator = torch.Generator().manual_seed(sampling.seed)
    never = [*tokenizer.unwritten, end]
    written: list[int] = []
    with evaluating(model):
        memory = model.read(on_device(model, [ids]))
        for gap in range(gaps):
            written.append(sentinel + gap)
            for place in range(room):
                begun = on_device(model, [[end, *written]])
                logits = model.logits(model.write(begun, memory)[0, -1]).float().cpu()
                ends = logits[sentinel + gap + 1].clone()
                logits[never], logits[sentinel:] = -torch.inf, -torch.inf
                if place:  # a gap holds something
                    logits[sentinel + gap + 1] = ends
                token = sample(logits, sampling, generator)
                if token >= sentinel:
                    break
                written.append(token)
    return written


# -- words -----------------------------------------------------------------------------------------


def give_words_back(
    model: EncoderDecoder, tokenizer: Tokenizer, prompt: str, sampling: SamplingConfig
) -> str:
    """A prompt's words, each from its own code; what stands between them is left out."""
    ids, context = np.array(tokenizer.encode(prompt), np.int32), model.config.context
    words = list(words_in(ids, letters(tokenizer), context))
    if not words:
        raise SpecError(f"prompt: {prompt!r} has no word in it to be given back")
    given = given_back(model, word_pairs(words, tokenizer.eos, context), tokenizer.eos)
    never = set(tokenizer.unwritten)
    return " ".join(tokenizer.decode(i for i in word if i not in never) for word in given)


@torch.inference_mode()
def given_back(model: EncoderDecoder, pairs: Pairs, eos: int) -> list[list[int]]:
    """The likeliest word for the code of each, at most as long as the longest of them."""
    inputs = pairs.arguments(model.embedding.weight.device)
    with evaluating(model):
        memory = model.read(inputs["ids"], inputs["real"])
        begun = inputs["begun"][:, :1]
        for _ in range(pairs.targets.shape[1]):
            last = model.logits(model.write(begun, memory)[:, -1]).argmax(-1)
            begun = torch.cat((begun, last[:, None]), dim=1)
    return [upto(word, eos) for word in begun[:, 1:].tolist()]


def upto(ids: Sequence[int], end: int) -> list[int]:
    """What comes before the end."""
    ids = list(ids)
    return ids[: ids.index(end)] if end in ids else ids


def letters_right(pairs: Pairs, given: list[list[int]], eos: int) -> tuple[int, int, int]:
    """Letters in all, letters that stand where they should, words that are whole."""
    words = [upto(word, eos) for word in pairs.targets.tolist()]
    right = sum(
        sum(a == b for a, b in zip(word, back, strict=False))
        for word, back in zip(words, given, strict=True)
    )
    same = sum(word == back for word, back in zip(words, given, strict=True))
    return sum(map(len, words)), right, same


# -- both ------------------------------------------------------------------------------------------


def on_device(model: Network, ids: list[list[int]]) -> Tensor:
    """Token ids where the model is."""
    return torch.tensor(ids, device=model.embedding.weight.device)
