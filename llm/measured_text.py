"""Bits per byte of documents, each read alone: which documents, and in what windows.

Documents are those that training holds out, or all there are, from all over the shards until so
many bytes are reached; models with other tokenizers read the same ones. Each token is predicted
once, from the tokens before it as far as the context reaches: windows follow one another, and the
last one reaches back (as lm-eval's `loglikelihood_rolling` does).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from llm.config import DataConfig
from llm.documents import is_held_out, read_documents
from llm.errors import DataError
from llm.evaluate_config import MeasuredTextConfig
from llm.held_out import SPREAD_UNITS
from llm.likelihood import Asked
from llm.permutation import Permutation
from llm.shards import Unit
from llm.units import Units, units_of

NUMBER = "[0-9]" * 5
"""Of a corpus' shard, in a glob: source `a` is not to take those of `a-b`."""


class Document(NamedTuple):
    """A text and where it was read."""

    name: str
    text: str


def measured_documents(config: MeasuredTextConfig) -> list[Document]:
    """Documents until `bytes` are reached; DataError if there is none."""
    units = units_of(config)
    share = -(-config.bytes // min(max(1, len(units)), SPREAD_UNITS))
    taken: list[Document] = []
    spare: list[Document] = []
    size = 0
    for unit in in_disorder(units):
        here = 0
        for document in documents_in(unit, config):
            (spare if here >= share else taken).append(document)
            length = len(document.text.encode())
            size += length if here < share else 0
            here += length
            if size >= config.bytes or here >= 2 * share:
                break
        if size >= config.bytes:
            return taken
    for document in spare:
        if size >= config.bytes:
            break
        taken.append(document)
        size += len(document.text.encode())
    if not taken:
        raise DataError(
            f"{', '.join(config.shards)}: no document to measure; raise fraction, or name others"
        )
    return taken


def in_disorder(units: Units) -> Iterator[Unit]:
    """All units in an order that has nothing to do with theirs."""
    order = Permutation(len(units), (0,))
    return (units[index] for index in order(np.arange(len(units))).tolist())


def documents_in(unit: Unit, config: MeasuredTextConfig) -> Iterator[Document]:
    """The documents of a unit that count."""
    for document in read_documents(unit, config):
        if config.fraction == 1 or is_held_out(document.text, config.fraction):
            yield Document(named(unit, document.place), document.text)


def named(unit: Unit, place: str) -> str:
    """What a document is called: its file, and where it stands there."""
    return f"{unit.path.rpartition('/')[2]}:{place}"


def windows(end: int, ids: Sequence[int], context: int) -> list[Asked]:
    """A text as portions that a context holds; `end` is what precedes it."""
    told = (end, *ids)  # of token i the ones before are told[: i + 1]
    asked = []
    for start in range(0, len(ids), context):
        stop = min(start + context, len(ids))
        first = max(0, stop - context)
        asked.append(Asked(told[first : stop + 1], start + 1 - first))
    return asked


def training_documents(data: DataConfig, held_out: bool, count: int) -> Iterator[Document]:
    """Documents of a training's text from all over it, `count` at most: those that it was trained
    on, or those held out of it."""
    validation = data.validation
    shards = validation.shards if held_out else data.shards
    if not shards and not validation.fraction:
        return
    config = DataConfig(**{**vars(data), "shards": shards or data.shards})
    units = units_of(config)
    each = -(-count // min(max(1, len(units)), SPREAD_UNITS))
    left = count
    for unit in in_disorder(units):
        for document in of_part(unit, config, held_out, min(each, left)):
            yield document
            left -= 1
        if left <= 0:
            return


def of_part(unit: Unit, data: DataConfig, held_out: bool, most: int) -> Iterator[Document]:
    """The first documents of a unit's share in training or validation."""
    whole = bool(data.validation.shards)
    for document in read_documents(unit, data):
        apart = whole or is_held_out(document.text, data.validation.fraction) == held_out
        if most > 0 and apart:
            most -= 1
            yield Document(named(unit, document.place), document.text)


def of_corpus(folder: str, source: str) -> MeasuredTextConfig:
    """The held-out documents of a source of a corpus stage."""
    return MeasuredTextConfig(
        shards=(f"{folder}/validation/{source}-{NUMBER}.parquet",), format="parquet"
    )
