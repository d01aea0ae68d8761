"""The YAML at the head of a model's card, as Hugging Face's hub reads it.

Fields and the form of `model-index`: huggingface.co/docs/hub/model-cards and
github.com/huggingface/hub-docs/blob/main/modelcard.md. What is not known is left out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from llm.evaluation_section import is_row, number

ON_HUB = re.compile(r"(?:hf://|huggingface\.co/)datasets/([\w.-]+/[\w.-]+)")
"""Data sets of the hub, by the addresses of their files."""


class Step(NamedTuple):
    """A stage that made something of the model."""

    name: str
    kind: str
    fingerprint: str
    spec: Mapping[str, Any]
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]
    results: Sequence[Mapping[str, Any]] = ()
    """Rows of evaluation.json that tell of its model."""


Lineage = Sequence[Step]


def head(name: str, task: str, tags: Sequence[str], license: str, lineage: Lineage) -> dict:
    """All of it."""
    known = {
        "license": license,
        "language": languages(lineage),
        "datasets": datasets(lineage),
        "model-index": model_index(name, task, results_of(lineage)),
    }
    return {
        "library_name": "transformers",
        "pipeline_tag": task,
        "tags": list(tags),
        **{key: value for key, value in known.items() if value},
    }


def languages(lineage: Lineage) -> list[str]:
    """Those that the filters of its corpora let through."""
    filters = (step.spec.get("filter") or {} for step in lineage if step.kind == "corpus")
    kept = [code for one in filters for code in (one.get("language") or {}).get("keep", ())]
    return list(dict.fromkeys(kept))


def datasets(lineage: Lineage) -> list[str]:
    """Data sets of the hub that any of its stages read."""
    names = [name for step in lineage for text in texts(step.spec) for name in ON_HUB.findall(text)]
    return list(dict.fromkeys(names))


def texts(value: Any) -> Iterator[str]:
    """All strings of a spec, at whatever depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def results_of(lineage: Lineage) -> list[Mapping[str, Any]]:
    """What was measured of the model itself, the last of the stages."""
    return [row for row in lineage[-1].results if is_row(row)] if lineage else []


def model_index(name: str, task: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The figures in the hub's form: by data set, with all metrics of each."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        value = number(row["value"])
        metric = {"type": row["metric"], "value": value, "name": row["metric"]}
        by_task.setdefault(row["task"], []).append(metric)
    results = [
        {"task": {"type": task}, "dataset": {"name": one, "type": one}, "metrics": metrics}
        for one, metrics in by_task.items()
    ]
    return [{"name": name, "results": results}] if results else []
