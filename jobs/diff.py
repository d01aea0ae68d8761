"""What differs between two runs: spec, data, code and figures, stage by stage.

A run is what a spec means now, a run's folder (of every stage the newest artifact), or an artifact
with all that it was made of. Stages are compared by name. `compare` is a pure function of the two;
jobs/show_diff.py prints what it finds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jobs.facts import MANIFEST, gather, read_manifest
from jobs.fingerprint import WITHOUT_EFFECT, canonical, meaningful
from jobs.inputs import inputs_of
from jobs.kinds import as_json
from jobs.lineage import in_order, trace
from jobs.load import load
from jobs.plan import resolve
from jobs.planned import StagePlan
from llm.errors import ArtifactError, SpecError

What = Literal["stage", "spec", "data", "code", "figure"]

DOCUMENTS = (
    *("documents", "kept", "train_documents", "train_bytes"),
    *("conversations", "comparisons", "prompts"),
)
"""Figures of a stage that are about its data."""

OF_MACHINE = (
    *("tokens_per_second", "flops_per_second", "data_wait", "mfu", "seconds", "memory"),
    *("falls", "redone", "lost_seconds", "goodput"),
)
"""Figures that differ between two runs of the same: they are shown, and make no difference."""

LESS = ("bpb", "loss", "train_loss", "perplexity", "unknown_share", "padding")
MORE = ("accuracy", "reward", "score", "coverage", "bytes_per_token", "margin")
"""Figures of which less, or more, is better; of others nobody can say."""


class Absent:
    """In place of a value that one of the two does not have."""

    def __repr__(self) -> str:
        return "-"


ABSENT = Absent()


NOTHING: tuple[Any, ...] = (ABSENT, None, "", [], (), {})
"""Values of which none differs from another, each being nothing."""


class Difference(NamedTuple):
    """One value that is not the same in both."""

    what: What
    stage: str
    path: str
    a: Any
    b: Any
    note: str = ""
    """`better` or `worse` is B than A; or why it makes no difference."""
    counts: bool = True
    """Whether it makes the runs different ones."""


@dataclass(frozen=True)
class StageView:
    """A stage as a manifest or a plan knows it."""

    kind: str
    spec: Mapping[str, Any]
    seed: int
    data: Mapping[str, Any] = field(default_factory=dict)
    code: Mapping[str, Any] = field(default_factory=dict)
    """Empty: it has not run."""
    metrics: Mapping[str, Any] = field(default_factory=dict)


Run = Mapping[str, StageView]
"""Stages by name."""


# -- comparing -------------------------------------------------------------------------------------


def compare(a: Run, b: Run) -> list[Difference]:
    """All that differs, in the order of the stages."""
    found: list[Difference] = []
    for name in dict.fromkeys([*a, *b]):
        one, other = a.get(name), b.get(name)
        if one is None or other is None or one.kind != other.kind:
            kind_a, kind_b = (view.kind if view else ABSENT for view in (one, other))
            found.append(Difference("stage", name, "", kind_a, kind_b))
        else:
            found += compare_stages(name, one, other)
    return found


def compare_stages(name: str, a: StageView, b: StageView) -> Iterator[Difference]:
    """What differs in two stages of one kind."""
    yield from in_spec(name, a, b)
    for path, x, y in differing({"seed": a.seed}, {"seed": b.seed}):
        yield Difference("spec", name, path, x, y)
    for path, x, y in differing(a.data, b.data):
        yield Difference("data", name, path, x, y)
    if a.code and b.code:
        yield from (Difference("code", name, *one) for one in differing(a.code, b.code))
        yield from in_figures(name, a.metrics, b.metrics)


def in_spec(name: str, a: StageView, b: StageView) -> Iterator[Difference]:
    """What differs in the resolved spec; what changes no result is said to."""
    made = a.kind in WITHOUT_EFFECT  # else it is started, not made
    pair = (meaningful(a.spec), meaningful(b.spec)) if made else (a.spec, b.spec)
    effective = {path for path, _, _ in differing(*pair)}
    for path, x, y in differing(a.spec, b.spec):
        note = "" if path in effective else "changes no result"
        yield Difference("spec", name, path, x, y, note)


def in_figures(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Difference]:
    """What differs in what was measured; of data what was counted."""
    for path, x, y in differing(a, b):
        first = path.partition(".")[0]
        if first in DOCUMENTS:
            yield Difference("data", name, path, x, y)
        elif first in OF_MACHINE:
            yield Difference("figure", name, path, x, y, "of the machine", counts=False)
        elif is_number(x) or is_number(y):
            yield Difference("figure", name, path, x, y, judgement(path, x, y))


def judgement(path: str, a: Any, b: Any) -> str:
    """Whether B is better or worse, where that is known."""
    figure = path.rpartition(".")[2].removeprefix("validation_")
    if not (is_number(a) and is_number(b)) or figure not in (*LESS, *MORE):
        return ""
    return "better" if (b < a) == (figure in LESS) else "worse"


def is_number(value: Any) -> bool:
    """Whether a value is a figure."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def differing(a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """Dotted paths whose values differ, and both values."""
    left, right = dict(leaves(a, "")), dict(leaves(b, ""))
    for path in dict.fromkeys([*left, *right]):
        x, y = left.get(path, ABSENT), right.get(path, ABSENT)
        if any(one not in NOTHING for one in (x, y)) and not same(x, y):
            yield path, x, y


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal as JSON."""
    return a is not ABSENT and b is not ABSENT and canonical(a) == canonical(b)


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value that holds no others; a list of plain values is one."""
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        inner = list(enumerate(value))
    else:
        yield path, value
        return
    for key, one in inner:
        yield from leaves(one, f"{path}.{key}".lstrip("."))


# -- the two runs ----------------------------------------------------------------------------------


def two_runs(words: Sequence[str]) -> list[tuple[str, list[str]]]:
    """`A [KEY=VALUE ...] B [KEY=VALUE ...]`: each target with the overrides that follow it."""
    found: list[tuple[str, list[str]]] = []
    for word in words:
        if "=" in word and found and not Path(word).exists():
            found[-1][1].append(word)
        else:
            found.append((word, []))
    if len(found) != 2:
        names = ", ".join(target for target, _ in found) or "none"
        raise SpecError(
            f"diff compares two runs, here are {len(found)}: {names}; give two specs, folders of "
            "runs or folders of artifacts, each with its own KEY=VALUE behind it"
        )
    return found


def read_run(target: str, overrides: list[str]) -> Run:
    """A run: of a spec as it is planned, of a folder as its manifests have it."""
    folder = Path(target)
    if not folder.is_dir():
        return of_spec(target, overrides)
    if overrides:
        raise SpecError(f"{overrides[0]}: is laid over a spec; {target} is a folder, already made")
    if (folder / MANIFEST).exists():
        links = [link for link in in_order(trace(folder)) if link.manifest]
        return {link.name: of_manifest(link.manifest) for link in links}
    return of_run(folder)


def of_run(folder: Path) -> Run:
    """The newest artifact of every stage in a run's folder, in the order they were made."""
    manifests = [read_manifest(path) for path in folder.glob(f"*/*/{MANIFEST}")]
    if not manifests:
        raise ArtifactError(f"{folder}: no stage is finished there; give runs/NAME, or an artifact")
    manifests.sort(key=lambda one: one.get("at", 0.0))
    return {one["stage"]: of_manifest(one) for one in manifests}


def of_spec(file: str, overrides: list[str]) -> Run:
    """What a spec means now; with figures where it was run."""
    spec = load(file, overrides)
    facts = gather(spec)
    plan = resolve(spec, facts)
    found = {}
    for one in plan.stages:
        made = facts.artifact(one.name, one.fingerprint) if one.fingerprint else None
        if made is not None and made.manifest is not None:
            found[one.name] = of_manifest(made.manifest)
        else:
            found[one.name] = of_plan(one, inputs_of(one.name, one.written, facts))
    return found


def of_plan(stage: StagePlan, inputs: Mapping[str, Any]) -> StageView:
    """A stage that has not run."""
    spec = as_json(stage.stage or stage.written)
    return StageView(stage.kind, spec, stage.seed, data_of(stage.data, inputs))


def of_manifest(manifest: Mapping[str, Any]) -> StageView:
    """A stage that has."""
    return StageView(
        kind=manifest["kind"],
        spec=manifest["spec"],
        seed=manifest["seed"],
        data=data_of(manifest["data"], manifest.get("inputs", {})),
        code=manifest.get("code", {"humpty": "unknown"}),
        metrics={**manifest.get("metrics", {}), "seconds": manifest.get("seconds")},
    )


def data_of(data: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the text: digests, how it is read, and how much there is."""
    sizes = {what: {"bytes": one["bytes"], "files": one["count"]} for what, one in inputs.items()}
    return {**data, **({"read": sizes} if sizes else {})}
