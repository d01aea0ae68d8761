"""The corpus stage: from messy files to clean shards, in steps that each leave files behind.

    sources -> portions -> parts: read, cleaned, judged, signed     a task for each portion
            -> copies across all parts                              shuffles (cluster.dedup)
            -> fates of all documents -> cuts of shards             this process, numbers only
            -> shards, ledger, samples, data card -> corpus.json    a task for each shard

What depends on other documents is decided by their order in the corpus (source, file, place) or by
hashes, never by when or where something ran, so the shards' bytes do not depend on the CPUs. A
stage that was broken off goes on with the parts and decisions that lie in `work`, which is removed
at the end. No text passes through this process but that of samples.
"""

import json
import pickle
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from cluster.datasets import each
from cluster.dedup import Parts, find_copies
from llm.clean import Cleaner
from llm.contamination import Grams
from llm.corpus_config import CorpusConfig, SourceConfig
from llm.corpus_report import report_page
from llm.corpus_shards import ShardMaker, show_copies, show_kept
from llm.damage import Damage, fail
from llm.data_card import data_card
from llm.errors import DataError
from llm.evaluation_texts import evaluation_texts
from llm.fates import CAP, Shard, dropped_path, find_above_cap, settle, write_dropped
from llm.files import write_atomic, write_json
from llm.filters import Filters
from llm.ledger import SHOWN, Ledger, total
from llm.portions import PORTION_BYTES, PartMaker, Portion, Rules, portions_of, short_name
from llm.samples import Samples, from_json
from llm.shards import common_parts, list_shards, list_units

Say = Callable[[str], None]

REVISION = 1
"""To be raised when unfinished work of an older version cannot be gone on with."""

BETWEEN_SAYS = 1.0
"""Seconds."""


def make_corpus(config: CorpusConfig, folder: Path, seed: int, say: Say) -> dict[str, Any]:
    """Make a corpus in a folder on the connected cluster; returns its figures."""
    began = time.monotonic()
    if not (folder / "corpus.json").exists():
        portions, ledgers = survey(config)
        corpus = Corpus(config, folder, seed, say, portions, ledgers)
        corpus.begin()
        corpus.read()
        corpus.drop()
        corpus.write()
    shutil.rmtree(folder / "work", ignore_errors=True)
    return figures(folder, time.monotonic() - began)


# -- what there is ---------------------------------------------------------------------------------


def survey(config: CorpusConfig) -> tuple[list[Portion], dict[str, Ledger]]:
    """The portions of all sources in their order, and ledgers of files that cannot be read."""
    portions: list[Portion] = []
    ledgers = {name: Ledger() for name in config.sources}
    for name, source in config.sources.items():
        damages: list[Damage] = []
        bad = fail if config.bad_files == "fail" else damages.append
        root, found = survey_source(name, source, bad)
        portions += found
        for damage in damages:
            ledgers[name].damage(damage, short_name(name, root, damage.path))
    return portions, ledgers


def survey_source(
    name: str, source: SourceConfig, bad: Callable[[Damage], None]
) -> tuple[str, list[Portion]]:
    """The folder that all files of a source lie in, and its portions."""
    shards = list_shards(source.shards, source.format, bad)
    folders = [shard.path.split("/")[:-1] for shard in shards]
    root = "".join(f"{part}/" for part in folders[0][: common_parts(folders)])
    units = list_units(shards, PORTION_BYTES, source.encoding, bad)
    return root, list(portions_of(name, root, units))


# -- the stage -------------------------------------------------------------------------------------


@dataclass
class Corpus:
    """A corpus while it is made."""

    config: CorpusConfig
    folder: Path
    seed: int
    say: Say
    portions: list[Portion]
    ledgers: dict[str, Ledger]

    def __post_init__(self) -> None:
        self.samples = Samples(self.seed)
        self.rows: list[int] = []

    @property
    def work(self) -> Path:
        """Where parts and decisions lie until the corpus is whole."""
        return self.folder / "work"

    @cached_property
    def parts_of(self) -> dict[str, range]:
        """The parts of each source, which follow each other."""
        sources = [portion.source for portion in self.portions]
        counts = {name: len(list(run)) for name, run in groupby(sources)}
        ends = np.cumsum(list(counts.values())).tolist()
        found = {n: range(e - c, e) for (n, c), e in zip(counts.items(), ends, strict=True)}
        return {name: found.get(name, range(0)) for name in self.config.sources}

    def begin(self) -> None:
        """Go on with what an attempt with the same plan has left; remove what another has."""
        plan = f"{REVISION} {self.seed} {self.config} {self.portions}"
        digest = sha256(plan.encode(errors="surrogateescape")).hexdigest()
        mark = self.work / "plan"
        if not mark.exists() or mark.read_text() != digest:
            for name in ("work", "train", "validation"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            write_atomic(mark, digest)

    def read(self) -> None:
        """Make the parts, and enter what they tell into the ledgers."""
        maker = PartMaker(self.config, rules_of(self.config), self.seed, self.work)
        sizes = [portion.bytes for portion in self.portions]
        progress = Progress(self.say, "read {} portions", sizes)
        # A task unpacks its own portion, not the million units that all of them may have.
        packed = [pickle.dumps(portion) for portion in self.portions]
        made = each(len(sizes), partial(make_part, maker, packed))
        for portion, summary in zip(self.portions, made, strict=True):
            self.rows.append(summary["rows"])
            self.ledgers[portion.source].add(Ledger.from_json(summary["ledger"]))
            for sample in from_json(summary["samples"]):
                self.samples.add(sample)
            progress.step()

    def drop(self) -> None:
        """Decide which documents of the parts are not kept."""
        find_copies(Parts(self.work, self.rows), self.config.dedup, self.say)
        if dropped_path(self.work, CAP).exists():
            return
        above = [np.empty(0, np.int64)]
        for name, source in self.config.sources.items():
            if source.cap is not None:
                above.append(find_above_cap(self.work, self.parts_of[name], source.cap))
        documents = np.concatenate(above)
        write_dropped(self.work, CAP, documents, documents)

    def write(self) -> None:
        """Write the shards, then all that tells of them; corpus.json says that they are whole."""
        shards = self.shards()
        maker = ShardMaker(shards, self.work, self.folder)
        progress = Progress(self.say, "wrote {} shards", [shard.bytes for shard in shards])
        entries = []
        for entry in each(len(shards), maker.make):
            entries.append(entry)
            progress.step()
        show_copies(self.samples, self.work)
        for shard in shards:
            if shard.number == 0 and shard.split == "train":
                show_kept(self.samples, self.folder / shard.name)
        write_books(self.folder, self.config, self.ledgers, self.samples)
        write_json(self.folder / "corpus.json", manifest(self.config, self.ledgers, entries))

    def shards(self) -> list[Shard]:
        """The shards of all sources, after all documents have been entered into the ledgers."""
        limit = self.config.shard_bytes
        shards = [
            shard
            for name, parts in self.parts_of.items()
            for shard in settle(self.work, name, parts, limit, self.ledgers[name])
        ]
        for name, ledger in self.ledgers.items():
            if self.config.sources[name].weight is not None and not ledger.train.documents:
                raise nothing_left(f"sources.{name}", ledger)
        if not any(shard.split == "train" for shard in shards):
            raise nothing_left("sources", total(self.ledgers.values()))
        return shards


def make_part(maker: PartMaker, packed: list[bytes], number: int) -> dict[str, Any]:
    """What the task of a portion does."""
    return maker.make(pickle.loads(packed[number]), number)


def rules_of(config: CorpusConfig) -> Rules:
    """The rules that a config asks for."""
    wanted = config.decontaminate
    grams = Grams(evaluation_texts(wanted.shards), wanted.ngram) if wanted else None
    return Rules(Cleaner(config.clean), Filters(config.filter), grams)


def nothing_left(what: str, ledger: Ledger) -> DataError:
    """Why there is nothing to train on."""
    reasons = ", ".join(f"{a.documents:,} by {name!r}" for name, a in ledger.reasons()[:4])
    held_out = ledger.validation.documents
    also = f"; {held_out:,} are held out for validation" if held_out else ""
    return DataError(
        f"{what}: nothing is left to train on: of {ledger.read.documents:,} documents "
        f"{ledger.lost.documents:,} were dropped ({reasons or 'none'}){also}; "
        "loosen the rules that drop most, or give other shards"
    )


class Progress:
    """Says how far a row of tasks is, once a second at most."""

    def __init__(self, say: Say, what: str, sizes: list[int]) -> None:
        self.say, self.what, self.sizes = say, what, sizes
        self.done = self.bytes = 0
        self.began = self.said = time.monotonic()

    def step(self) -> None:
        """One more is done."""
        self.bytes += self.sizes[self.done]
        self.done += 1
        now = time.monotonic()
        if now - self.said < BETWEEN_SAYS and self.done < len(self.sizes):
            return
        self.said = now
        share, rate = self.bytes / max(1, sum(self.sizes)), self.bytes / (now - self.began) / 1e6
        what = self.what.format(f"{self.done}/{len(self.sizes)}")
        self.say(f"{what}, {share:.0%}, {rate:.1f} MB/s")


# -- what is told ----------------------------------------------------------------------------------


def write_books(
    folder: Path, config: CorpusConfig, ledgers: dict[str, Ledger], samples: Samples
) -> None:
    """Write ledger.json, samples.jsonl, README.md and report.html."""
    whole = total(ledgers.values())
    whole.check()
    sources = {name: ledger.to_json(SHOWN) for name, ledger in ledgers.items()}
    rows = (json.dumps(row, ensure_ascii=False) + "\n" for row in samples.to_json())
    write_json(folder / "ledger.json", {"sources": sources, "total": whole.to_json(SHOWN)})
    write_atomic(folder / "samples.jsonl", "".join(rows))
    write_atomic(folder / "README.md", data_card(config, ledgers))
    write_atomic(folder / "report.html", report_page(config, ledgers, samples.all()))


def manifest(
    config: CorpusConfig, ledgers: dict[str, Ledger], shards: list[dict[str, Any]]
) -> dict[str, Any]:
    """What other stages need to know of a corpus."""
    sources = {
        name: {
            "weight": config.sources[name].weight,
            "train": vars(ledger.train),
            "validation": vars(ledger.validation),
        }
        for name, ledger in ledgers.items()
    }
    return {"sources": sources, "shards": shards}


def figures(folder: Path, seconds: float) -> dict[str, Any]:
    """The metrics of the stage."""
    ledger = Ledger.from_json(json.loads((folder / "ledger.json").read_bytes())["total"])
    return {
        "documents": ledger.read.documents,
        "bytes": ledger.read.bytes,
        "kept": ledger.kept.documents,
        "kept_bytes": ledger.kept.bytes,
        "validation": ledger.validation.documents,
        "dropped": {reason: amount.documents for reason, amount in ledger.reasons()},
        "megabytes_per_second": ledger.read.bytes / seconds / 1e6,
    }
