"""A lineage for people: a tree from an artifact back to the data, in which each stands once."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from jobs.figures import counted
from jobs.fingerprint import brief
from jobs.kinds import REFERENCES
from jobs.lineage import Link, in_order, lineage
from jobs.stages import Stage
from llm.metrics import duration, size_of
from llm.model_card import FIGURES, shown

NOTHING: tuple[Any, ...] = (None, "", [], {})
"""What is said by saying nothing."""

SHOWN_FILES = 3
"""Files of a set that are listed; --json has more."""

WIDE = 10_000
"""Columns where there is no terminal: a line is a line there."""

DOCUMENTS = {
    "documents": "documents",
    "train_documents": "documents to train on",
    "conversations": "conversations",
    "comparisons": "comparisons",
}
"""Figures that count what was read."""

SETS = ("examples", "sources")
"""Keys of a manifest's data with a digest for each of several sets of files."""

DIGITS = 64
"""Of a whole digest."""

KINDS: Mapping[str, Any] = {
    get_args(one.__annotations__["kind"])[0]: one for one in get_args(Stage)
}
"""The record of each kind of stage."""


def print_lineage(target: str, overrides: list[str], storage: str, as_json: bool) -> None:
    """Show where what a command line names comes from."""
    link = lineage(target, overrides, storage)
    if as_json:
        print(json.dumps(as_data(link), indent=2, ensure_ascii=False))
    else:
        console = Console()
        show_lineage(link, console if console.is_terminal else Console(width=WIDE))


def show_lineage(link: Link, console: Console) -> None:
    """Print the tree, and at the end what is broken in it."""
    tree = Tree(title(link, ""), guide_style="dim")
    grow(tree, link, set())
    console.print(tree)
    broken = [one for one in in_order(link) if one.broken]
    if broken:
        names = ", ".join(one.name for one in broken)
        console.print(f"the chain is broken at {names}", style="red", highlight=False)


def grow(tree: Tree, link: Link, told: set[str]) -> None:
    """Add what is known of an artifact, then its parents."""
    if link.fingerprint in told:
        tree.add(Text("as above", style="dim"))
        return
    told.add(link.fingerprint)
    for what, text in lines(link):
        style = "red" if what == "broken" else ""
        tree.add(Text.assemble((f"{what:8} ", "dim"), (text, style)))
    for key, parent in link.parents.items():
        grow(tree.add(title(parent, key)), parent, told)


def title(link: Link, key: str) -> Text:
    """`from: sft 1a2b3c4d5e6f (sft)`"""
    kind = f" ({link.kind})" if link.kind else ""
    role = f"{key}: " if key else ""
    name = "" if link.name == link.fingerprint else f"{link.name} "
    return Text.assemble(role, (name, "bold"), (link.fingerprint, "cyan"), kind)


def lines(link: Link) -> Iterator[tuple[str, str]]:
    """What there is to say about an artifact."""
    for fault in link.broken:
        yield "broken", fault
    if link.folder:
        yield "folder", str(link.folder)
    if not link.manifest:
        return
    yield "made", made(link.manifest)
    if code := link.manifest.get("code"):
        yield "code", ", ".join(f"{name} {version}" for name, version in code.items())
    if told := ", ".join(told_of(link.manifest)):
        yield "spec", told
    yield from (("data", one) for one in data_of(link.manifest))
    if known := ", ".join(figures(link.manifest.get("metrics", {}))):
        yield "figures", known


def made(manifest: Mapping[str, Any]) -> str:
    """When, how long and where."""
    at = manifest.get("at")
    when = datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds") if at else "some time"
    took = f" in {duration(manifest['seconds'])}" if "seconds" in manifest else ""
    where = f" on {manifest['host']}" if "host" in manifest else ""
    return f"{when}{took}{where}, seed {manifest['seed']}"


# -- the spec in short -----------------------------------------------------------------------------


def told_of(manifest: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a resolved stage that are not as they would be by themselves."""
    record = KINDS.get(manifest["kind"])
    usual = defaults(record) if record else {}
    skipped = {"kind", "data", "sources", *REFERENCES.get(manifest["kind"], ())}
    spec = {key: value for key, value in manifest["spec"].items() if key not in skipped}
    yield from unusual(spec, usual, "")


def unusual(value: Any, usual: Any, path: str) -> Iterator[str]:
    """`optim.lr 0.001` for every value below a path that differs from the usual one."""
    if isinstance(value, Mapping):
        inner = usual if isinstance(usual, Mapping) else {}
        for key, one in value.items():
            yield from unusual(one, inner.get(key, MISSING), f"{path}.{key}".lstrip("."))
    elif value != usual and value not in NOTHING:
        yield f"{path} {brief(value)}"


def defaults(record: Any) -> dict[str, Any]:
    """What the fields of a record are if nobody says anything, as JSON has them."""
    found = {}
    for one in fields(record):
        made = one.default_factory() if one.default_factory is not MISSING else one.default
        if made is not MISSING:
            plain = asdict(made) if is_dataclass(made) and not isinstance(made, type) else made
            found[one.name.removesuffix("_")] = json.loads(json.dumps(plain))
    return found


# -- the data --------------------------------------------------------------------------------------


def data_of(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Every set of files that it read, with digests; of older manifests the digests alone."""
    metrics = manifest.get("metrics", {})
    for what, known in manifest.get("inputs", {}).items():
        yield f"{what}: {size_of(known['bytes'])} {known['digest'][:12]}{files_of(known)}"
    if "inputs" not in manifest:
        yield from (f"{key} {digest[:12]}" for key, digest in digests_in(manifest["data"]))
    for key, text in DOCUMENTS.items():
        if isinstance(metrics.get(key), int):
            yield f"{metrics[key]:,} {text}"


def digests_in(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """All that stands for the content of files, by what it is to the stage."""
    for key, value in data.items():
        inner = value.values() if isinstance(value, Mapping) else value
        for one in [value] if isinstance(value, str) else inner if key in SETS else ():
            if len(one) == DIGITS:
                yield key, one


def files_of(known: Mapping[str, Any]) -> str:
    """The names of the files, the first of many."""
    if not known["files"]:
        return ""
    names = [f"{Path(one['path']).name} {one['digest'][:12]}" for one in known["files"]]
    more = known["count"] - SHOWN_FILES
    listed = ", ".join(names[:SHOWN_FILES]) + (f" and {more:,} more" if more > 0 else "")
    return f" in {counted(known['count'], 'file')}: {listed}"


def figures(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The figures that readers ask for."""
    for name, text in FIGURES.items():
        if isinstance(value := metrics.get(name), int | float):
            yield f"{text} {shown(value)}"


# -- for programs ----------------------------------------------------------------------------------


def as_data(link: Link) -> dict[str, Any]:
    """All of it as JSON: the artifacts by fingerprint, parents first, manifests whole."""
    return {
        "artifact": link.fingerprint,
        "lineage": {one.fingerprint: record_of(one) for one in in_order(link)},
    }


def record_of(link: Link) -> dict[str, Any]:
    """One artifact: where it is, what is broken, and its manifest."""
    return {
        "folder": str(link.folder) if link.folder else None,
        "broken": list(link.broken),
        "manifest": dict(link.manifest),
    }
