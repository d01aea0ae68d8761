"""Versions of the spec's format: which one this program reads, and how older ones wrote things.

A file may say `version: 1`; one that does not is taken to be of today. What an older file wrote in
another way is refused with its line, and `python -m jobs migrate` rewrites it (jobs/migrate.py).
Who changes the format adds an `Old` here and raises VERSION.

So far one form has changed, and every spec that was ever shipped loads as it is. Defaults that
changed are no matter of the format: a run's manifests say what they were.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from jobs.yaml_source import Keys, Problem, Source, report

VERSION = 1


class Found(NamedTuple):
    """Where an old form stands, and what stands in its place now."""

    keys: Keys
    now: str


class Old(NamedTuple):
    """One thing that was written differently in an older version."""

    what: str
    find: Callable[[Mapping[str, Any]], Iterator[Found]]
    """In the values of a file."""


def require_known(source: Source) -> None:
    """Refuse what a newer program has written, before all that this one does not know in it."""
    version = source.values.get("version")
    if isinstance(version, int) and version > VERSION:
        place = source.place(("version",))
        message = f"{version} is newer than this program, which reads specs up to {VERSION}"
        raise report([Problem(place, ("version",), f"{message}; install a newer humpty")])


def outdated(source: Source, file: str) -> Iterator[Problem]:
    """Everything that is written as it was in an older version."""
    for old in OLD:
        for found in old.find(source.values):
            place = source.place(found.keys)
            command = "" if place.override else f", or run python -m jobs migrate {file} --write"
            message = f"{old.what}; write {found.now}{command}"
            yield Problem(place, found.keys, message)


def stages_of(values: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The stages of a file that have the shape of one."""
    stages = values.get("stages")
    for name, stage in stages.items() if isinstance(stages, Mapping) else ():
        if isinstance(stage, Mapping):
            yield name, stage


# -- what has changed ------------------------------------------------------------------------------


def kept_checkpoints(values: Mapping[str, Any]) -> Iterator[Found]:
    """`keep: 2` became `keep: {last: 2}` when the best checkpoint could be kept, too."""
    for name, stage in stages_of(values):
        checkpoint = stage.get("checkpoint")
        keep = checkpoint.get("keep") if isinstance(checkpoint, Mapping) else None
        if isinstance(keep, int) and not isinstance(keep, bool):
            yield Found(("stages", name, "checkpoint", "keep"), f"{{last: {keep}}}")


OLD = (Old("a number alone was how many are kept before version 1", kept_checkpoints),)
"""All of them; each tells an old form from what is allowed today."""
