"""The name of a result: a hash of all that changes it, and of nothing else.

In it: the resolved stage, the fingerprints of the stages it builds on, the digest of the text and
how it is read, the seed. Not in it: machines, workers, paths, names, and how often a run logs,
validates or saves. Two specs that must give the same artifact share one; a stage is run again only
if its fingerprint is new.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.spec import REFERENCES, GenerateStage, Stage, TokenizerStage, as_json
from llm.config import DataConfig

FORMAT = 1
"""Raised when the code's results change though specs do not; then everything runs anew."""

WITHOUT_EFFECT = {
    "tokenizer": ("file",),  # its digest stands for it
    "pretrain": ("log_every", "validate_every", "checkpoint", "micro_batch", "prompt"),
    "generate": (),
}
"""Per kind of stage, the fields that do not change its result."""


def meaningful(stage: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stage that change its result; for names stand the parents' fingerprints."""
    ignored = {*WITHOUT_EFFECT[stage["kind"]], *REFERENCES[stage["kind"]]}
    return {key: value for key, value in stage.items() if key not in ignored}


def text_of(stage: Stage, data: DataConfig, digest: str, held_out: str) -> dict[str, Any]:
    """What a stage knows of the text: digests, and how it is read; nothing if it reads none."""
    if isinstance(stage, GenerateStage):
        return {}
    if isinstance(stage, TokenizerStage) and stage.file is not None:
        return {"file": digest}
    known: dict[str, Any] = {
        "digest": digest,
        "format": data.format,
        "text": data.text,
        "documents": data.documents,
        "fraction": data.validation.fraction,
    }
    if not isinstance(stage, TokenizerStage):
        known |= {"held_out": held_out, "validation_tokens": data.validation.tokens}
    return known


def fingerprint(
    stage: Stage, parents: Mapping[str, str], data: Mapping[str, Any], seed: int
) -> str:
    """12 hex digits; `parents` maps the keys that name stages to those stages' fingerprints."""
    identity = {
        "format": FORMAT,
        "stage": meaningful(as_json(stage)),
        "parents": dict(parents),
        "data": dict(data),
        "seed": seed,
    }
    return hashlib.sha256(canonical(identity).encode()).hexdigest()[:12]


def canonical(value: Any) -> str:
    """JSON in which equal values are equal text."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """What has changed between two pieces of JSON: `optim.lr 0.001 -> 0.003`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            inner = f"{path}.{key}".lstrip(".")
            yield from differences(old.get(key), new.get(key), inner)
    elif canonical(old) != canonical(new):
        yield f"{path} {brief(old)} -> {brief(new)}"


def brief(value: Any) -> str:
    """A value in a few letters."""
    text = canonical(value)
    return text if len(text) <= 24 else f"{text[:24]}..."
