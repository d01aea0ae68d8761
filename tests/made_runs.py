"""A run's folder as a run leaves it, made by hand in milliseconds."""

import json
from pathlib import Path
from typing import Any

from llm.ledger import Amount, Ledger
from llm.metrics import Event

STEPS = 20

COMMON = {"lr": 1e-3, "grad_norm": 1.2, "tokens_per_second": 1000.0, "mfu": 0.3, "data_wait": 0.0}

PPO_STEP = {
    **{"kl": 2.5, "coefficient": 0.05, "entropy": 1.5, "length": 12.0, "ended": 0.9, "same": 0.1},
    **{"score": 0.8, "clip_fraction": 0.1, "lr": 1e-4, "grad_norm": 1.0, "tokens_per_second": 99.0},
}

CODE = {"python": "3.12.1", "humpty": "0.1.0", "torch": "2.9"}


def training(first: Event, last: Event, end: float, **start: Any) -> list[Event]:
    """The log of a training whose figures go straight from `first` to `last`."""
    facts = {"parameters": 1_000_000, "workers": 2, "device": "cpu", "precision": "bf16", **start}
    log: list[Event] = [{"event": "start", "step": 0, "steps": STEPS, "time": 0.0, **facts}]
    for step in range(1, STEPS + 1):
        way = step / STEPS
        values = {key: first[key] + (last[key] - first[key]) * way for key in first}
        log.append({"event": "step", "step": step, "steps": STEPS, **values})
    return [*log, {"event": "end", "step": STEPS, "time": end}]


def held_out(*values: Event) -> list[Event]:
    """Validations, the first before any step and the last after all."""
    places = [at * STEPS // max(1, len(values) - 1) for at in range(len(values))]
    pairs = zip(places, values, strict=True)
    return [{"event": "validation", "step": step, **value} for step, value in pairs]


def statistics(step: int) -> Event:
    """Figures of two layers."""
    figures = ("gradient", "update", "weight", "rms", "largest")
    layers = [{"layer": str(at), **dict.fromkeys(figures, 0.1 * step + at)} for at in range(2)]
    return {"event": "statistics", "step": step, "layers": layers}


LOGS: dict[str, list[Event]] = {
    "pretrain": [
        *training({"loss": 6.0, **COMMON}, {"loss": 3.0, **COMMON}, 3600.0),
        *held_out({"loss": 6.0, "bpb": 4.0}, {"loss": 3.0, "bpb": 2.0}),
        *(statistics(step) for step in (5, 10, 15, 20)),
        {"event": "sample", "step": 10, "prompt": "The king", "text": " sat on a wall"},
        {"event": "sample", "step": 20, "prompt": "The king", "text": " had a great fall"},
    ],
    "sft": [
        *training({"loss": 3.0, **COMMON}, {"loss": 2.0, **COMMON}, 600.0),
        *held_out({"loss": 3.5}, {"loss": 2.5}),
    ],
    "reward": [
        *training({"loss": 0.7, **COMMON}, {"loss": 0.5, **COMMON}, 300.0),
        *held_out({"accuracy": 0.5, "low": 0.4, "high": 0.6, "pairs": 100}),
        *held_out({"accuracy": 0.75, "low": 0.66, "high": 0.82, "pairs": 100}),
    ],
    "ppo": [
        *training({"reward": 0.1, **PPO_STEP}, {"reward": 0.9, **PPO_STEP}, 900.0),
        {"event": "guard", "step": 5, "kind": "kl", "action": "warned", "message": "KL is high"},
    ],
}

PARENTS = {
    "corpus": {},
    "tokenizer": {"corpus": "corpus"},
    "pretrain": {"tokenizer": "tokenizer", "corpus": "corpus"},
    "sft": {"from": "pretrain"},
    "reward": {"from": "sft"},
    "ppo": {"from": "sft", "reward": "reward"},
    "evaluate": {"from": "ppo", "also.0": "sft"},
}
"""By stage; each is called like its kind, and its fingerprint is made of its name."""

METRICS: dict[str, dict[str, Any]] = {
    "corpus": {
        **{"documents": 1000, "kept": 900, "train_documents": 880, "train_bytes": 2_500_000},
        "dropped": {"exact duplicate": 70, "language": 30},
    },
    "tokenizer": {"vocab_size": 512, "bytes_per_token": 2.5, "coverage": 0.9997},
    "pretrain": {"tokens": 1_000_000, "bpb": 2.0},
}

SPECS: dict[str, dict[str, Any]] = {
    "corpus": {"sources": {"python": {"shards": ["pydoc://"]}}},
    "pretrain": {"model": {"family": "decoder", "depth": 2}},
}

SECONDS = {
    "corpus": 60.0,
    "tokenizer": 30.0,
    "pretrain": 3600.0,
    "sft": 600.0,
    "reward": 300.0,
    "ppo": 900.0,
    "evaluate": 120.0,
}

ANSWERS = [
    {
        "prompt": "Who sat on a wall?",
        "answers": {"pretrain": "?", "sft": "A king", "ppo": "Humpty"},
    },
    {"prompt": "你是谁？", "answers": {"pretrain": "", "sft": "我是", "ppo": "我是蛋"}},
]

EVALUATION: dict[str, Any] = {
    "rows": [
        {
            **{"model": model, "task": "hellaswag", "metric": "accuracy", "value": value},
            **{"low": value - 0.1, "high": value + 0.1, "examples": 100, "unit": "share"},
            **{"better": "higher", "note": "by likelihood"},
        }
        for model, value in (("sft", 0.4), ("ppo", 0.5))
    ]
    + [
        {
            **{"model": model, "task": "python", "metric": "bpb", "value": value, "low": None},
            **{"high": None, "examples": 50, "unit": "bits per byte", "better": "lower"},
            "note": "",
        }
        for model, value in (("sft", 2.1), ("ppo", 2.2))
    ],
    "differences": [
        {
            **{"task": "hellaswag", "metric": "accuracy", "model": "ppo", "other": "sft"},
            **{"value": 0.1, "low": -0.02, "high": 0.22, "examples": 100, "unit": "share"},
            "better": "higher",
        }
    ],
    "calibration": [
        {
            **{"model": "ppo", "task": "hellaswag"},
            "bins": [{"from": 0.2, "to": 0.3, "examples": 9, "confidence": 0.25, "accuracy": 1}],
        }
    ],
}


def fingerprint(name: str) -> str:
    """Twelve digits, of a name."""
    return name.encode().hex().ljust(12, "0")[:12]


def made_run(place: Path, price: float = 1.5, name: str = "story") -> Path:
    """The folder of a run from text to PPO and its evaluation, which fell once on the way."""
    folder = place / name
    for stage in PARENTS:
        make_stage(folder, stage)
    put(folder / "run.json", record(name, price))
    put(at(folder, "ppo") / "answers.json", ANSWERS)
    put(at(folder, "evaluate") / "evaluation.json", EVALUATION)
    put(at(folder, "corpus") / "ledger.json", books())
    lines(at(folder, "pretrain") / "events.jsonl", fallen())
    return folder


def at(folder: Path, stage: str) -> Path:
    """Where the artifact of a stage lies."""
    return folder / stage / fingerprint(stage)


def make_stage(folder: Path, stage: str) -> None:
    """A finished artifact."""
    manifest = {
        **{"format": 3, "stage": stage, "kind": stage, "fingerprint": fingerprint(stage)},
        "spec": {"kind": stage, **SPECS.get(stage, {})},
        "parents": parents(stage),
        **{"data": {"digest": 64 * "d"} if stage == "corpus" else {}, "seed": 1},
        **{"metrics": METRICS.get(stage, {}), "seconds": SECONDS[stage], "code": CODE, "at": 1e9},
    }
    put(at(folder, stage) / "manifest.json", manifest)
    if stage in LOGS:
        lines(at(folder, stage) / "metrics.jsonl", LOGS[stage])


def parents(stage: str) -> dict[str, str]:
    """Fingerprints by key."""
    return {key: fingerprint(parent) for key, parent in PARENTS[stage].items()}


def record(name: str, price: float) -> dict[str, Any]:
    """run.json."""
    cluster = {"workers": 2, "cpus_per_worker": 1, "gpus_per_worker": 0, "price": price}
    stages = [
        {
            **{"name": stage, "kind": stage, "status": "cached", "parents": parents(stage)},
            **{"identity": fingerprint(stage), "folder": f"{stage}/{fingerprint(stage)}"},
            "spec": {"kind": stage},
        }
        for stage in PARENTS
    ]
    served = {"name": "serve", "kind": "serve", "status": "on demand", "identity": ""}
    return {
        **{"name": name, "file": "story.yaml", "overrides": ["seed=1"], "began": 1e9},
        "machine": {"processor": "a processor", "cores": 2, "memory": 8_000_000_000},
        "spec": {"name": name, "seed": 1, "cluster": cluster},
        "stages": [*stages, {**served, "folder": None, "parents": {"from": fingerprint("ppo")}}],
    }


def books() -> dict[str, Any]:
    """ledger.json of a corpus of one source."""
    ledger = Ledger(
        read=Amount(1000, 3_000_000),
        train=Amount(880, 2_500_000),
        validation=Amount(20, 60_000),
        dropped={"exact duplicate": Amount(70, 300_000), "language": Amount(30, 100_000)},
        removed=40_000,
    )
    return {"sources": {"python": ledger.to_json()}, "total": ledger.to_json()}


def fallen() -> list[Event]:
    """A worker was killed after step 12, and step 10 had been saved."""
    return [
        {"at": 0.0, "event": "begin", "step": 0, "workers": 2},
        {"at": 2000.0, "event": "fall", "cause": "worker 1 was killed", "rank": 1},
        {
            **{"at": 2010.0, "event": "begin", "step": 10, "reached": 12, "workers": 2},
            **{"fell_at": 1990.0, "fell_after": 12},
        },
        {"at": 2100.0, "event": "again", "step": 12},
        {"at": 3600.0, "event": "end", "step": 20},
    ]


def put(path: Path, value: Any) -> None:
    """A file of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def lines(path: Path, events: list[Event]) -> None:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
