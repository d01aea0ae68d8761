"""Why a stage runs: what differs between its manifest and those of earlier results, in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.facts import Artifact
from jobs.fingerprint import AMOUNTS, FORMAT, differences, meaningful

Manifest = Mapping[str, Any]

DIGESTS = {
    "digest": "the text",
    "held_out": "the held-out text",
    "file": "the file",
    "words": "the list of words",
    "evaluation": "the evaluation text",
    "examples": "the data",
    "rule": "the rule",
    "folder": "the folder",
}
"""Digests in a stage's data, and what they stand for; they say nothing to people."""

OF_SOURCES = ("order", "weights")
"""What a stage knows of a corpus' sources besides their text."""


def why_again(found: Artifact, kind: str) -> str:
    """An unfinished artifact is gone on with."""
    if found.step is not None:
        return f"it was broken off; continues after step {found.step}"
    if kind in ("pretrain", "sft", "reward", "dpo", "ppo"):
        return "it was broken off before its first checkpoint"
    return "it was broken off; what is there of it is used"


def why_new(
    new: Manifest, artifacts: Sequence[Artifact], parents: Mapping[str, tuple[str, bool]]
) -> str:
    """What differs from the newest artifact of the stage.

    `parents` has the name of the stage under each key, and whether that one is finished.
    """
    finished = [one.manifest for one in artifacts if one.manifest]
    if not finished:
        return "no artifact yet"
    old = finished[0]
    if old["kind"] != new["kind"]:
        return f"it was a {old['kind']} stage before"
    if old.get("format") != FORMAT:
        return "the program makes it differently now"
    changed = list(differences(meaningful(old["spec"]), meaningful(new["spec"])))
    for key, (name, cached) in parents.items():
        if old["parents"].get(key) != new["parents"][key]:
            changed.append(f"'{name}' {'has changed' if cached else 'will run'}")
    if "corpus" in old["parents"] and "corpus" not in new["parents"]:
        changed.append("the text is that of data now")
    changed += what_text_changed(old["data"], new["data"])
    changed += differences(old["seed"], new["seed"], "seed")
    return "; ".join(changed) or "the program makes it differently now"


def why_more(old: Manifest, new: Manifest) -> str:
    """What a finished sweep is asked for beyond what it did; empty: nothing."""
    keys = AMOUNTS[new["kind"]]
    asked = [{key: one["spec"].get(key) for key in keys} for one in (old, new)]
    return "; ".join(differences(asked[0], asked[1]))


def what_text_changed(old: Manifest, new: Manifest) -> Iterator[str]:
    """What differs in the text a stage reads and how it reads it."""
    for key, text in DIGESTS.items():
        if key in new and old.get(key) != new[key]:
            yield f"{text} has changed"
    for place, digest in new.get("measured", {}).items():
        if old.get("measured", {}).get(place, digest) != digest:
            yield f"the data of {place} has changed"
    for name, digest in new.get("sources", {}).items():
        if old.get("sources", {}).get(name, digest) != digest:
            yield f"the text of source '{name}' has changed"
    read = [key for key in new if key in old and key not in (*DIGESTS, "sources", "measured")]
    for key in read:
        section = "sources" if key in OF_SOURCES else "data"
        yield from differences(old[key], new[key], f"{section}.{key}")
