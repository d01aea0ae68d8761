"""Trains a sentencepiece tokenizer on a sample of text, and measures how well it fits.

`llm.tokenizer` says what a trained one promises. The settings here see to it: nothing is normalised
away, spaces and line ends are kept, the control symbols have the first ids, and the trainer's
threads are fixed, so that the same sample gives the same tokenizer.
"""

import io
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from llm.config import TokenizerConfig
from llm.errors import DataError
from llm.files import write_atomic
from llm.model_file import rounded_scores
from llm.tokenizer import (
    BOS,
    EOS,
    PAD,
    RESERVED,
    SPACE,
    TURNS,
    UNKNOWN,
    Tokenizer,
)

OWN_TOKEN = "\n\t\r\u2585"
"""Characters hidden from the trainer that get a token each if the sample has them."""

HIDDEN = re.compile(f"[{OWN_TOKEN}{SPACE}\0]+")

LONGEST_SENTENCE = 16_000
"""Characters; the trainer skips sentences of more bytes than it is told to expect."""

MEASURED_CHARACTERS = 1_000_000
HOLD_OUT_EVERY = 20

THREADS = 4
"""Of the trainer; part of the result, for sums of floats depend on their order."""


@dataclass(frozen=True)
class TokenizerReport:
    """What was trained and how well it fits; shares are between 0 and 1."""

    model: str
    vocab_size: int
    sample_documents: int
    sample_bytes: int
    measured_on: str
    """`held-out` documents of the sample, or the `training` sample where each one counts."""
    measured_bytes: int
    bytes_per_token: float
    coverage: float
    """Share of characters that lie in tokens of their own: neither unknown nor spelled in bytes."""
    byte_share: float
    """Share of tokens that are single bytes."""
    unknown_share: float
    """Share of tokens that are the unknown token."""


def train(
    texts: Iterable[str], config: TokenizerConfig, path: Path, *, seed: int
) -> TokenizerReport:
    """Train on `texts`, which are held in memory, and write the model to `path` in one step."""
    documents = list(texts)
    training, held = split(documents, config, seed)
    proto = fit(training, config)
    write_atomic(path, proto)
    measured = held or training
    return TokenizerReport(
        model=config.model,
        sample_documents=len(documents),
        sample_bytes=sum(len(text.encode()) for text in documents),
        measured_on="held-out" if held else "training",
        **measure(Tokenizer(path), measured),
    )


def split(documents: list[str], config: TokenizerConfig, seed: int) -> tuple[list[str], list[str]]:
    """Documents to train on and to measure on.

    Every 20th is held out; none where all characters or words that occur are to get a token, or
    where the sample is so small that each document matters.
    """
    if config.model in ("char", "word") or len(documents) < HOLD_OUT_EVERY:
        return documents, []
    first = random.Random(seed).randrange(HOLD_OUT_EVERY)
    held = documents[first::HOLD_OUT_EVERY]
    return [t for i, t in enumerate(documents) if i % HOLD_OUT_EVERY != first], held


def fit(documents: list[str], config: TokenizerConfig) -> bytes:
    """A trained model as sentencepiece writes it to a file."""
    own = [c for c in OWN_TOKEN if any(c in text for text in documents)]
    if not any(sentences(documents)):
        raise DataError(
            "tokenizer: the sample has no text to train on; check data.shards or raise sample_bytes"
        )
    check_smallest(config, len(own))
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=training_sentences(documents, config),
            model_writer=model,
            **trainer_options(config, own),
        )
    except RuntimeError as error:
        raise explained(error, config, documents) from error
    proto = rounded_scores(model.getvalue()) if config.model == "unigram" else model.getvalue()
    check_size(sentencepiece.SentencePieceProcessor(model_proto=proto), config, documents)
    return proto


def sentences(documents: list[str]) -> Iterator[str]:
    """The documents in parts that sentencepiece takes as they are."""
    for text in documents:
        for part in HIDDEN.split(text):
            while len(part) > LONGEST_SENTENCE:
                cut = part.rfind(" ", 1, LONGEST_SENTENCE)
                cut = cut if cut > 0 else LONGEST_SENTENCE
                yield part[:cut]
                part = part[cut:]
            if part:
                yield part


def training_sentences(documents: list[str], config: TokenizerConfig) -> Iterator[str]:
    """`sentences`, and for words a lone space, which spells unknown words after a space."""
    yield from sentences(documents)
    if config.model == "word" and config.byte_fallback:
        yield " "


def trainer_options(config: TokenizerConfig, own: list[str]) -> dict[str, Any]:
    """The trainer's settings: nothing of the text is dropped, merged or rewritten."""
    wanted: int | str = config.vocab_size
    every = wanted == "auto"  # char and word only: all that occur
    return {
        "model_type": config.model,
        "vocab_size": 1 << 20 if every else wanted,
        "use_all_vocab": every,
        "byte_fallback": config.byte_fallback,
        "character_coverage": 1.0 if every or config.model == "word" else config.coverage,
        # A space must be a token where unknown characters are spelled: as bytes it is U+2581.
        "required_chars": SPACE if config.byte_fallback and config.model != "word" else "",
        "normalization_rule_name": "identity" if config.normalize == "none" else "nfkc",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,  # runs of spaces, as in indented code, are tokens
        "split_digits": True,
        "max_sentence_length": 4 * LONGEST_SENTENCE,
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "pad_id": 3,
        "unk_piece": UNKNOWN,
        "bos_piece": BOS,
        "eos_piece": EOS,
        "pad_piece": PAD,
        "unk_surface": "\N{REPLACEMENT CHARACTER}",
        "control_symbols": list(TURNS),
        "user_defined_symbols": own,
        "num_threads": THREADS,
        "minloglevel": 2,
    }


def check_smallest(config: TokenizerConfig, own: int) -> None:
    """That there is room for one token besides the fixed ones, which not every trainer checks."""
    twice = 2 if config.model == "word" else 1  # it adds each of them after a space as well
    least = len(RESERVED) + twice * own + (256 if config.byte_fallback else 0) + 1
    wanted: int | str = config.vocab_size
    if isinstance(wanted, int) and wanted < least:
        raise too_small(wanted, least)


def check_size(model: Any, config: TokenizerConfig, documents: list[str]) -> None:
    """That the vocabulary is as large as was asked for, which the char trainer does not check."""
    wanted: int | str = config.vocab_size
    if isinstance(wanted, int) and wanted != model.vocab_size():
        raise too_large(wanted, model.vocab_size(), documents)


def explained(error: RuntimeError, config: TokenizerConfig, documents: list[str]) -> DataError:
    """The trainer's refusal in terms of the spec."""
    if found := re.search(r"too high.*<= (\d+)", str(error)):
        return too_large(config.vocab_size, int(found[1]), documents)
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
        return too_small(config.vocab_size, int(found[1]))
    return DataError(f"tokenizer: sentencepiece cannot train on this sample: {error}")


def too_large(wanted: int, most: int, documents: list[str]) -> DataError:
    """The sample does not hold that many tokens."""
    size = sum(len(text.encode()) for text in documents)
    return DataError(
        f"tokenizer: vocab_size: {wanted} is too large for a sample of {size:,} bytes, which gives "
        f"at most {most} tokens; set vocab_size to {most} or less, or train on more text"
    )


def too_small(wanted: int, least: int) -> DataError:
    """Reserved tokens, bytes and characters alone need more."""
    return DataError(
        f"tokenizer: vocab_size: {wanted} is too small: reserved tokens, bytes and the sample's "
        f"characters need at least {least}; set vocab_size to {least} or more, or lower coverage"
    )


def measure(tokenizer: "Tokenizer", documents: list[str]) -> dict[str, Any]:
    """The figures of a report, from at most a million characters of the documents."""
    texts = list(first_characters(documents, MEASURED_CHARACTERS))
    ids = np.concatenate([np.zeros(0, np.int32), *tokenizer.encode_arrays(texts)])
    size = sum(len(text.encode()) for text in texts)
    plain = np.array([len(piece) for piece in tokenizer.plain_pieces()])  # characters per id
    tokens, characters = max(1, len(ids)), max(1, sum(map(len, texts)))
    return {
        "vocab_size": tokenizer.vocab_size,
        "measured_bytes": size,
        "bytes_per_token": size / tokens,
        "coverage": min(1.0, float(plain[ids].sum()) / characters),
        "byte_share": float(np.isin(ids, list(tokenizer.byte_ids().values())).sum()) / tokens,
        "unknown_share": float((ids == tokenizer.unknown).sum()) / tokens,
    }


def first_characters(texts: Iterable[str], count: int) -> Iterator[str]:
    """Texts up to `count` characters in all; the last one may be cut."""
    for text in texts:
        if count <= 0:
            return
        yield text[:count]
        count -= len(text)
