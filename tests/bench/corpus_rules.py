"""Filters and signatures against datatrove's, on one core: MB/s, and how often verdicts agree.

Text: documents of a dictionary, WordNet and the kernel's documentation, from Debian packages.
datatrove lives in a venv of its own, `$HUMPTY_DATATROVE` or ~/.cache/humpty/datatrove, made when it
is not there. It looks at as many documents as it gets through in SECONDS for each stage, ours at
all. Where verdicts differ it is by what the rules count:

- lines are compared with the white space around them there, without it here;
- datatrove takes punctuation for words when it looks for letters in 80% of the words, ours what
  stands between white space;
- to datatrove the words of a short text that stand once are its most frequent ones, to ours
  nothing is repeated there;
- of repeated runs that overlap datatrove counts some, ours every character that is in one.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from llm.corpus_config import (
    C4Config,
    CleanConfig,
    FilterConfig,
    GopherConfig,
    LanguageConfig,
    NearConfig,
    RepetitionConfig,
)

BYTES = 24_000_000
LONGEST = 40_000
"""Characters taken of a document; spaCy has a limit, and time is short."""

SECONDS = 20
VENV = Path(os.environ.get("HUMPTY_DATATROVE", Path.home() / ".cache/humpty/datatrove"))
PACKAGES = ("datatrove==0.10.*", "spacy>=3.8", "nltk", "regex", "xxhash<4", "numpy")

LETTERS_ASIDE = "gopher, letters aside"

Verdicts = list[str | None]


def main() -> None:
    """Measure ours and theirs, print two tables."""
    texts = read_texts()
    ours = measure_ours(texts)
    theirs = measure_theirs(texts)
    report_speed(ours, theirs)
    if theirs:
        report_agreement(ours, theirs)


def read_texts() -> list[str]:
    """Documents of the packages' text in any order, BYTES of them."""
    from tests.bench._debian import write_english

    with tempfile.TemporaryDirectory(prefix="humpty-bench-") as folder:
        shards = sorted(write_english(Path(folder)).glob("*.jsonl"))
        lines = [line for shard in shards for line in shard.open()]
    random.Random(0).shuffle(lines)
    texts: list[str] = []
    size = 0
    while size < BYTES:
        texts.append(json.loads(lines.pop())["text"][:LONGEST])
        size += len(texts[-1].encode())
    return texts


def measure_ours(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Bytes, seconds and verdicts of each stage."""
    from llm.clean import Cleaner
    from llm.duplicates import Signer, exact_key
    from llm.filters import Filters

    def judged(config: FilterConfig) -> Callable[[list[str]], Verdicts]:
        filters = Filters(config)
        return lambda texts: [filters.judge(text).reason for text in texts]

    gopher, repetition = GopherConfig(), RepetitionConfig()
    signer = Signer(NearConfig())
    everything = CleanConfig(boilerplate=True, url_lines=0.5, emails=True, phones=True, ips=True)
    clean, clean_all = Cleaner(CleanConfig()), Cleaner(everything)
    stages: dict[str, Callable[[list[str]], Any]] = {
        "clean": lambda texts: [clean(text) for text in texts],
        "clean, every step": lambda texts: [clean_all(text) for text in texts],
        "gopher": judged(FilterConfig(gopher=gopher)),
        LETTERS_ASIDE: judged(FilterConfig(gopher=GopherConfig(alphabetic_words=None))),
        "repetition": judged(FilterConfig(repetition=repetition)),
        "c4": judged(FilterConfig(c4=C4Config())),
        "exact": lambda texts: [exact_key(text) for text in texts],
        "near": signer.bands,
        "language": judged(FilterConfig(language=LanguageConfig(keep=("en",)))),
    }
    return {name: measure(stage, texts) for name, stage in stages.items()}


def measure(stage: Callable[[list[str]], Any], texts: list[str]) -> dict[str, Any]:
    """Bytes, seconds and result of a stage."""
    stage(texts[:20])  # builds tables
    start = time.process_time()
    result = stage(texts)
    seconds = time.process_time() - start
    size = sum(len(text.encode()) for text in texts)
    return {"bytes": size, "seconds": seconds, "verdicts": result}


def measure_theirs(texts: list[str]) -> dict[str, dict[str, Any]]:
    """datatrove's figures, or nothing and why."""
    try:
        if not (VENV / "bin/python").exists():
            print(f"making {VENV} for datatrove")
            subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
            pip = [VENV / "bin/python", "-m", "pip", "install", "--quiet", *PACKAGES]
            subprocess.run(pip, check=True)
        with tempfile.TemporaryDirectory(prefix="humpty-bench-") as folder:
            documents = Path(folder) / "documents.json"
            documents.write_text(json.dumps(texts))
            script = Path(__file__).with_name("_datatrove.py")
            command = [VENV / "bin/python", script, documents, str(SECONDS)]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no comparison: datatrove cannot be run in {VENV}: {error}")
        return {}
    results: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return results


def report_speed(ours: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]) -> None:
    """Print MB/s of each stage, and of all that both have, one after another."""
    table = Table(title=f"rules on one core, {ours['clean']['bytes'] / 1e6:.0f} MB of English")
    for column in ("", "MB/s", "datatrove", "times"):
        table.add_column(column, justify="left" if not column else "right")
    for name, result in ours.items():
        other = rate([theirs[name]]) if name in theirs else None
        table.add_row(name, *compared(rate([result]), other))
    both = [name for name in ours if name in theirs and name != LETTERS_ASIDE]
    in_a_row = (rate([results[name] for name in both]) for results in (ours, theirs))
    table.add_row("those of both in a row", *compared(*in_a_row))
    Console().print(table)


def rate(results: Sequence[dict[str, Any]]) -> float | None:
    """MB/s of stages that follow each other."""
    if not results:
        return None
    return 1e-6 / sum(result["seconds"] / result["bytes"] for result in results)


def compared(ours: float | None, theirs: float | None) -> tuple[str, str, str]:
    """Two rates and their ratio."""
    if ours is None or theirs is None:
        return ("" if ours is None else f"{ours:.1f}"), "", ""
    return f"{ours:.1f}", f"{theirs:.2f}", f"{ours / theirs:.0f}"


def report_agreement(ours: dict[str, dict[str, Any]], theirs: dict[str, dict[str, Any]]) -> None:
    """Print the share of documents that both keep or both drop, and the usual differences."""
    table = Table(title="documents that both keep or both drop")
    for column in ("", "documents", "agree", "ours / datatrove's where they differ"):
        table.add_column(column, justify="right" if column in ("documents", "agree") else "left")
    for name in ("gopher", LETTERS_ASIDE, "repetition", "c4"):
        pairs = list(zip(ours[name]["verdicts"], theirs[name]["verdicts"], strict=False))
        differ = Counter(pair for pair in pairs if (pair[0] is None) != (pair[1] is None))
        agree = 1 - differ.total() / len(pairs)
        usual = [f"{n} x {a or 'kept'} / {b or 'kept'}" for (a, b), n in differ.most_common(4)]
        table.add_row(name, f"{len(pairs):,}", f"{agree:.1%}", "\n".join(usual))
    Console().print(table)


if __name__ == "__main__":
    main()
