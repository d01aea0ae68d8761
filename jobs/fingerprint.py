"""The name of a result: a hash of all that changes it, and of nothing else.

In it: the resolved stage, the fingerprints of the stages it builds on, the digest of the text and
how it is read, the seed. Not in it: machines, workers, paths, names, and how often a run logs,
validates or saves. Two specs that must give the same artifact share one; a stage is run again only
if its fingerprint is new.

The weights of a corpus' sources mix a training's batches and change no shard: they are part of the
training's name, so another mixture does not clean the corpus again.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jobs.kinds import REFERENCES, as_json
from jobs.stages import AnyStage
from llm.config import FaultsConfig, ModelConfig, OptimConfig

FORMAT = 3
"""Raised when the code's results change though specs do not; then everything runs anew."""

OF_LOOP = (
    "log_every",
    "validate_every",
    "checkpoint",
    "micro_batch",
    "statistics",
    "compile",
    "recompute",
)
"""What changes no training but for rounding."""

AMOUNTS = {
    "sweep": ("trials", "hours", "tokens"),
    "scaling": ("budgets", "depths", "predict", "hold_out", "bootstrap"),
}
"""How much a search does: it goes on in its folder when there is to be more."""

WITHOUT_EFFECT: dict[str, tuple[str, ...]] = {
    # digests stand for files
    "corpus": (
        "sources.*.shards",
        "sources.*.weight",
        "filter.words.file",
        "decontaminate.shards",
    ),
    "tokenizer": ("file",),
    "tokens": (),
    "pretrain": (*OF_LOOP, "prompt", "cache", "model.aspect"),
    "sft": (*OF_LOOP, "data.*.shards", "prompts", "answer_tokens"),
    "reward": (*OF_LOOP, "data.*.shards"),
    "dpo": (*OF_LOOP, "data.*.shards", "prompts", "answer_tokens"),
    "ppo": (*OF_LOOP, "data.*.shards", "prompts", "actors", "rule"),
    "generate": (),
    "evaluate": (
        *("text.*.shards", "tasks.*.shards", "tasks.*.shots_from"),
        *("wins.shards", "toxicity.shards", "toxicity.words"),
        *(f"wins.judge.{key}" for key in ("key_env", "timeout", "retries", "concurrent")),
    ),
    "import": ("folder",),
    "export": (),
    "sweep": (*AMOUNTS["sweep"], "concurrent", "each"),
    "scaling": (*AMOUNTS["scaling"], "concurrent", "each"),
}
"""Per kind of stage, the fields that do not change its result; `*` is any name or number."""


def meaningful(stage: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stage that change its result; for names stand the parents' fingerprints."""
    made = dict(stage)
    for path in (*WITHOUT_EFFECT[stage["kind"]], *REFERENCES[stage["kind"]]):
        made = without(made, path.split("."))
    if made.get("faults") == asdict(FaultsConfig()):
        del made["faults"]  # it leaves out no update, so results are those of before there was it
    if "optim" in made:
        made["optim"] = without_usual(made["optim"], later_of_optim())
    if stage["kind"] == "pretrain":
        made["model"] = architecture(made["model"])
        if made.get("objective") in ("auto", "next_token"):
            del made["objective"]  # likewise
    return made


LATER = ("family", "rope", "norm_eps", "qk_norm", "window", "code", "experts", "init")
"""Fields of a model that came after the format; their defaults are what there was before them."""

OF_EXPERTS = ("experts_per_token", "balance")
"""Fields that mean nothing without experts."""

LATER_OF_OPTIM = ("kind", "lr_width", "momentum", "ema", "z_loss")
"""Like LATER, of an optimizer."""


def architecture(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model without what only says what was always so, and without its preset, which is in it."""
    usual = asdict(ModelConfig())
    before = {key: usual[key] for key in LATER}
    before |= {"kv_heads": model["heads"], "qkv_bias": model["bias"]}
    if not model.get("experts"):
        before |= {key: model.get(key) for key in OF_EXPERTS}
    before["preset"] = model.get("preset")
    return without_usual(model, before)


def later_of_optim() -> dict[str, Any]:
    """Fields of an optimizer that came after the format, and what there was before them."""
    usual = asdict(OptimConfig())
    return {key: usual[key] for key in LATER_OF_OPTIM}


def without_usual(record: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """A record without the fields that have their usual value."""
    return {key: value for key, value in record.items() if usual.get(key, ...) != value}


def without(value: Any, path: Sequence[str]) -> Any:
    """A copy that lacks the value at a path, if there is one; `*` stands for every key."""
    first, *rest = path
    if isinstance(value, list | tuple) and first == "*":
        return [without(inner, rest) for inner in value]
    if not isinstance(value, Mapping):
        return value
    hit = [key for key in value if first in ("*", key)]
    if not rest:
        return {key: inner for key, inner in value.items() if key not in hit}
    return {key: without(inner, rest) if key in hit else inner for key, inner in value.items()}


def fingerprint(
    stage: AnyStage, parents: Mapping[str, str], data: Mapping[str, Any], seed: int
) -> str:
    """12 hex digits; `parents` maps the keys that name stages to those stages' fingerprints."""
    known = {"parents": dict(parents), "data": dict(data), "seed": seed}
    return fingerprint_of({"format": FORMAT, "spec": as_json(stage), **known})


def fingerprint_of(manifest: Mapping[str, Any]) -> str:
    """The name that what stands in a manifest makes; another one than it states: it was changed."""
    identity = {key: manifest[key] for key in ("format", "parents", "data", "seed")}
    identity["stage"] = meaningful(manifest["spec"])
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
