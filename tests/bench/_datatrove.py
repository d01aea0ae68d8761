"""What datatrove makes of documents, and how fast; run by `corpus_rules` in a venv that has it.

`python _datatrove.py DOCUMENTS.json SECONDS` looks at documents for so long with each of its
filters and prints, for each, the bytes it came through, the seconds, and its verdicts.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.pipeline.filters import (
    C4QualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.hashing import HashConfig, create_hash_func
from datatrove.utils.text import simplify_text


def main() -> None:
    """Measure all stages."""
    texts = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps({name: measure(stage, texts) for name, stage in stages().items()}))


def stages() -> dict[str, Callable[[str], Any]]:
    """Its filters with the paper's thresholds, and its signatures with as many permutations."""
    minhash = MinhashDedupSignature("/unused", MinhashConfig(num_buckets=16, hashes_per_bucket=7))
    hash64 = create_hash_func(HashConfig(precision=64, hash_fc="xxhash"))
    c4 = C4QualityFilter(remove_citations=False, filter_policy=False, max_word_length=-1)
    return {
        "gopher": verdict(GopherQualityFilter()),
        "gopher, letters aside": verdict(GopherQualityFilter(max_non_alpha_words_ratio=None)),
        "repetition": verdict(GopherRepetitionFilter()),
        "c4": verdict(c4),
        "exact": lambda text: hash64(simplify_text(text)),
        "near": lambda text: minhash.get_signature(minhash.get_shingles(text)),
    }


def verdict(rules: Any) -> Callable[[str], str | None]:
    """A filter as a function from a text to the reason why it goes."""

    def judge(text: str) -> str | None:
        kept = rules.filter(Document(text=text, id="0"))
        return None if kept is True else kept[1]

    return judge


def measure(stage: Callable[[str], Any], texts: list[str]) -> dict[str, Any]:
    """Bytes, seconds and verdicts of a stage until time is up."""
    stage("Humpty Dumpty sat on a wall, and had a great fall.")  # loads models
    verdicts, size = [], 0
    start = time.process_time()
    for text in texts:
        try:
            result = stage(text)
        except Exception as error:  # on a document without words, say
            result = f"{type(error).__name__}"
        verdicts.append(result if isinstance(result, str) else None)
        size += len(text.encode())
        if time.process_time() - start > float(sys.argv[2]):
            break
    return {"bytes": size, "seconds": time.process_time() - start, "verdicts": verdicts}


if __name__ == "__main__":
    main()
