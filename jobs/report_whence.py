"""The part of a run's report that tells where everything comes from: lineage, environment, spec."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from jobs.report_read import RunSeen, Seen, mapping, moment
from llm.lineage_graph import Node, graph
from llm.metrics import size_of
from llm.page import shown
from llm.page_parts import table

DIGESTS = ("digest", "sources", "examples", "held_out", "folder", "file")
"""What manifests call the digests of their data."""

DIGEST = 12
"""Characters of a digest that are shown."""

MOST_YAML = 200_000
"""Characters of the resolved spec that are shown."""


def lineage_section(run: RunSeen) -> Iterator[str]:
    """What was made of what, drawn and as a table."""
    nodes = nodes_of(run)
    yield (
        "<p>An arrow leads from each stage to what was made of it. A fingerprint stands for all "
        "that decided a result: settings, data, seed, and the fingerprints it builds on.</p>"
    )
    yield graph(nodes)
    names = {node.key: node.name for node in nodes}
    rows = [lineage_row(one, names) for one in run.stages if one.folder]
    yield table(("stage", "made of", "data", "made at"), rows, 4, "lineage")


def nodes_of(run: RunSeen) -> list[Node]:
    """The stages, and before them what is known by its children alone."""
    own = {one.identity for one in run.stages}
    strangers: dict[str, Node] = {}
    for one in run.stages:
        for key, parent in one.parents.items():
            if parent not in own:
                note = f"{key} of {one.name}, not in this folder"
                strangers.setdefault(
                    str(parent), Node(str(parent), key, note, str(parent), (), True)
                )
    return [*strangers.values(), *map(node_of, run.stages)]


def node_of(one: Seen) -> Node:
    """A stage as a box."""
    parents = tuple(str(parent) for parent in one.parents.values())
    note = f"{one.kind}, {one.state}"
    return Node(one.identity or one.name, one.name, note, one.identity, parents, not one.folder)


def lineage_row(one: Seen, names: Mapping[str, str]) -> list[str]:
    """A line of the table."""
    parents = [f"{key}: {names.get(str(value), value)}" for key, value in one.parents.items()]
    data = mapping(one.manifest.get("data"))
    digests = [text for key in DIGESTS if (text := cut(data.get(key)))]
    made = one.manifest.get("at")
    when = moment(made) if isinstance(made, int | float) else ""
    return [one.name, ", ".join(parents), " ".join(digests), when]


def cut(value: Any) -> str:
    """The beginning of a digest, or of several; nothing of anything else."""
    if isinstance(value, str):
        return value[:DIGEST]
    if isinstance(value, dict):
        value = list(value.values())
    return " ".join(filter(None, map(cut, value))) if isinstance(value, list) else ""


def environment_section(run: RunSeen) -> Iterator[str]:
    """The machine, and the versions that made each stage."""
    machine = mapping(run.record.get("machine"))
    rows = [
        [name, size_of(float(value)) if name == "memory" else str(value)]
        for name, value in machine.items()
        if isinstance(value, int | float | str)
    ]
    rows += [[name, value] for name, value in computed_on(run)]
    rows += [[package, version] for package, version in versions(run).items()]
    yield table(("what", "which"), rows, 2, "environment")


def computed_on(run: RunSeen) -> Iterator[tuple[str, str]]:
    """What trainings say that they ran on."""
    for one in run.stages:
        start = one.start
        if {"workers", "device", "precision"} <= start.keys():
            count = start["workers"]
            workers = f"{count} worker{'s' if count != 1 else ''}"
            yield one.name, f"{workers} on {start['device']}, {start['precision']}"


def versions(run: RunSeen) -> dict[str, str]:
    """By package; where stages were made by different ones, each with its stages."""
    found: dict[str, dict[str, list[str]]] = {}
    for one in run.stages:
        for package, version in mapping(one.manifest.get("code")).items():
            found.setdefault(package, {}).setdefault(str(version), []).append(one.name)
    return {
        package: ", ".join(
            by if len(versions) == 1 else f"{by} ({', '.join(stages)})"
            for by, stages in versions.items()
        )
        for package, versions in found.items()
    }


def spec_section(run: RunSeen) -> Iterator[str]:
    """The spec as every stage has had it, without any `auto`."""
    head = dict(mapping(run.record.get("spec"))) or {"name": run.name}
    head["stages"] = {one.name: dict(one.spec) for one in run.stages}
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=80)[:MOST_YAML]
    file, over = run.record.get("file"), run.record.get("overrides")
    if file:
        options = " ".join(map(str, over)) if isinstance(over, list) else ""
        yield f"<p>Made of {shown(str(file))} {shown(options)}</p>"
    yield f"<details><summary>The resolved YAML</summary><pre>{shown(text)}</pre></details>"
