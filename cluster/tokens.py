"""Tokenises a corpus once, on all CPUs, into files that trainings map into memory (`llm.tokens`).

A file is written in one step, so a run that fell goes on with those that are missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.datasets import each
from llm.config import DataConfig
from llm.data import TokenisedText, require_training_text
from llm.tokenizer_file import read_tokenizer
from llm.tokens import group_path, group_starts, write_group, write_index
from llm.units import units_of

Say = Callable[[str], None]


@dataclass(frozen=True)
class Groups:
    """What a task writes: the tokens of one group of units."""

    text: TokenisedText
    starts: list[int]
    folder: Path

    def write(self, group: int) -> None:
        """Write one group's file, if it is not there."""
        path = group_path(self.folder, group)
        if not path.exists():
            ends = [*self.starts[1:], len(self.text.units)]
            units = range(self.starts[group], ends[group])
            write_group(path, self.text, units, self.text.tokenizer.vocab_size)


def make_tokens(data: DataConfig, tokenizer: Path, folder: Path, say: Say) -> dict[str, Any]:
    """Fill `folder` with the tokens of all training documents; returns figures."""
    units = units_of(data)
    require_training_text(units, data)
    folder.mkdir(parents=True, exist_ok=True)
    starts = group_starts(units)
    groups = Groups(TokenisedText(units, data, read_tokenizer(tokenizer)), starts, folder)
    for done, _ in enumerate(each(len(starts), groups.write), start=1):
        say(f"tokenised {done}/{len(starts)} portions of the text")
    return write_index(folder, units, starts)
