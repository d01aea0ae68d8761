"""A small messy corpus: two sources with copies, near copies, damaged lines and a damaged file.

`python -m tests.corpora FOLDER CPUS [WORDS]` makes it with so many CPUs; with WORDS, it dies
without a word when the first thing is said that begins with them.
"""

import gzip
import json
import os
import random
import sys
from pathlib import Path

from llm.corpus_config import (
    CharactersConfig,
    CleanConfig,
    CorpusConfig,
    DedupConfig,
    FilterConfig,
    NearConfig,
    SourceConfig,
)

VOCABULARY = [f"{a}{b}{c}" for a in "bdfglmnprst" for b in "aeiou" for c in "klmnrst"]

PORTION_BYTES = 8_000

LEAST = 40
"""Characters of a document."""


def prose(source: random.Random, words: int) -> str:
    """Made-up words."""
    return " ".join(source.choices(VOCABULARY, k=words))


def write_corpus(folder: Path) -> CorpusConfig:
    """Sources `wiki` (jsonl in three files) and `web` (gzip'd lines, the second file cut short)."""
    source = random.Random(7)
    wiki = [prose(source, source.randint(20, 60)) for _ in range(120)]
    web = [prose(source, source.randint(20, 60)) for _ in range(60)]
    web[10] = wiki[5].upper()  # an exact copy in the other source
    web[20] = wiki[6] + " tail"  # a near copy
    web[21] = wiki[6] + " end"
    wiki[100] = wiki[7]
    wiki[50] = "too short"
    (folder / "wiki").mkdir(parents=True)
    for number in range(3):
        lines = [json.dumps({"text": text}) for text in wiki[40 * number : 40 * number + 40]]
        lines.insert(3, "{broken")
        (folder / "wiki" / f"{number}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "web").mkdir()
    for number in range(2):
        lines = "".join(text + " \n" for text in web[30 * number : 30 * number + 30])
        packed = gzip.compress(lines.encode(), mtime=0)
        (folder / "web" / f"{number}.txt.gz").write_bytes(packed[: 20 if number else None])
    return config_of(folder)


def config_of(folder: Path) -> CorpusConfig:
    """How the sources of a folder are made a corpus."""
    return CorpusConfig(
        sources={
            "wiki": SourceConfig(shards=(f"{folder}/wiki",), cap=14_000),
            "web": SourceConfig(shards=(f"{folder}/web",), documents="line"),
        },
        clean=CleanConfig(),
        filter=FilterConfig(characters=CharactersConfig(least=LEAST)),
        dedup=DedupConfig(near=NearConfig()),
        validation=0.1,
        shard_bytes=4_000,
    )


def main(folder: Path, cpus: int, last_words: str | None) -> None:
    """Make the corpus of folder/in in folder/out."""
    import cluster.corpus
    from cluster.config import ClusterConfig
    from cluster.session import session

    def say(line: str) -> None:
        if last_words is not None and line.startswith(last_words):
            os._exit(9)

    cluster.corpus.PORTION_BYTES = PORTION_BYTES
    cluster.corpus.BETWEEN_SAYS = 0.0
    os.cpu_count = lambda: 1
    with session(ClusterConfig(workers=1, cpus_per_worker=cpus - 1, ingest_cpus=1)):
        cluster.corpus.make_corpus(config_of(folder / "in"), folder / "out", 1, say)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
