"""Trains a tokenizer on a sample that Ray Data draws from all shards in parallel.

A document is in the sample if a hash of (seed, text) says so; only the sample reaches this
process, never the corpus. Held-out documents stay out of it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray.data

from cluster.ingest import GROUP_BYTES, MOST_IN_GROUP, keep_order
from llm.config import DataConfig, TokenizerConfig
from llm.documents import is_held_out, is_sampled, read_unit
from llm.tokenizer_trainer import TokenizerReport, train
from llm.units import Units, units_of

READ_AHEAD = 64
"""Megabytes of the sample that wait for the trainer at most."""


@dataclass(frozen=True)
class Sample:
    """About `bytes` of a corpus' training text, the same whatever reads it."""

    units: Units
    data: DataConfig
    bytes: int
    seed: int

    def texts(self) -> Iterator[str]:
        """The sample's documents, in the order of the shards."""
        size = self.group_size()
        groups = math.ceil(len(self.units) / size)
        dataset = ray.data.range(groups, override_num_blocks=groups).map_batches(
            partial(self.group_texts, size=size), batch_size=1
        )
        keep_order(dataset.context, READ_AHEAD)
        left = self.bytes
        for row in dataset.iter_rows():
            left -= len(row["text"].encode())
            yield row["text"]
            if left <= 0:
                return

    def group_size(self) -> int:
        """Units that one task reads."""
        mean = float(self.units.bytes.mean())
        return min(MOST_IN_GROUP, math.ceil(GROUP_BYTES / max(1.0, mean)))

    def group_texts(self, batch: dict[str, np.ndarray], size: int) -> Iterator[dict[str, Any]]:
        """The sampled documents of one group of units."""
        first = int(batch["id"][0]) * size
        share = min(1.0, self.bytes / max(1, int(self.units.bytes.sum())))
        fraction = self.data.validation.fraction
        for index in range(first, min(first + size, len(self.units))):
            texts = [
                text
                for text in read_unit(self.units[index], self.data)
                if not is_held_out(text, fraction) and is_sampled(text, share, self.seed)
            ]
            if texts:
                yield {"text": np.array(texts, dtype=object)}


def train_tokenizer(
    data: DataConfig, config: TokenizerConfig, seed: int, path: Path
) -> TokenizerReport:
    """Train a tokenizer on a sample of the training text and write it to `path`."""
    sample = Sample(units_of(data), data, config.sample_bytes, seed)
    return train(sample.texts(), config, path, seed=seed)
