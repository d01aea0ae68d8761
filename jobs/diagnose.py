"""Every mistake in the shape of a spec at once: unknown keys, wrong types, values out of bounds.

pydantic stops looking where a key is misspelt. So a misspelt key is reported and then repaired, to
see what is wrong below it; values that are not allowed are reported and then left out, so that the
rules between fields can be checked on the rest.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from jobs.kinds import NOT_WRITTEN
from jobs.shape import (
    choices,
    describe,
    did_you_mean,
    fields_of,
    is_choice,
    is_group,
    item_of,
    kinds_in,
    listed_in,
    named_in,
    nearest,
    record_in,
)
from jobs.yaml_source import Keys, Problem, Source, dotted

R = TypeVar("R")


class Mistake(NamedTuple):
    """What pydantic found: where, what it was, and what belongs there."""

    keys: Keys
    error: str
    value: Any
    annotation: Any
    help: str


def diagnose(source: Source, record: type[R]) -> tuple[R | None, Source]:
    """The record that the values make, mistakes left out, and the source with all problems.

    None: what is left out is required.
    """
    repair = Repair(source, record)
    values = repair.value(source.values, record, ())
    mended = Source(values, repair.places)
    made, mistakes = validated(values, record)
    problems = [*source.problems, *repair.problems]
    told = {problem.keys for problem in problems}
    problems += [problem_of(m, mended) for m in mistakes if m.keys not in told]
    while mistakes:
        smaller = values
        for mistake in mistakes:
            smaller = without(smaller, left_out(mistake))
        if smaller == values:
            break
        values = smaller
        made, mistakes = validated(values, record)
    return made, replace(mended, problems=tuple(problems))


def left_out(mistake: Mistake) -> Keys:
    """What to do without to go on: the value, or all that a required one is missing from."""
    return mistake.keys[:-1] if mistake.error == "missing" else mistake.keys


class Repair:
    """Goes through values along the types that they should have; mends keys and kinds."""

    def __init__(self, source: Source, root: type) -> None:
        self.source = source
        self.root = root
        self.places = dict(source.places)
        self.problems: list[Problem] = []

    def value(self, value: Any, annotation: Any, keys: Keys) -> Any:
        """The value with only known keys in it."""
        if value is None and is_group(annotation) and not self.source.place(keys).override:
            advice = "write {} for all its defaults, or leave the key out"
            self.report(keys, f"an empty group of rules would be off; {advice}")
        if isinstance(value, list) and (item := listed_in(annotation)):
            return [self.value(one, item, (*keys, i)) for i, one in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if kinds := kinds_in(annotation):
            return self.stage(value, kinds, keys)
        if record := record_in(annotation):
            return self.record(value, record, keys)
        if item := named_in(annotation):
            return self.named(value, item, keys)
        return value

    def named(self, values: dict[str, Any], item: Any, keys: Keys) -> dict[str, Any]:
        """Keys that the user chooses; what cannot be mended is left out."""
        made = {key: self.value(value, item, (*keys, key)) for key, value in values.items()}
        return {key: value for key, value in made.items() if value is not UNKNOWN}

    def record(self, values: dict[str, Any], record: type, keys: Keys) -> dict[str, Any]:
        """Keys that the record knows."""
        known = fields_of(record)
        made = {}
        for key, value in values.items():
            right: str | None = key
            if key not in known:
                right = self.unknown_key(key, values, record, keys)
            if right is not None:
                made[right] = self.value(value, known[right].annotation, (*keys, right))
        return made

    def unknown_key(self, key: str, values: dict[str, Any], record: type, keys: Keys) -> str | None:
        """Report a key; the one that was meant, if that is clear and it is not there."""
        known = fields_of(record)
        meant = nearest(key, known)
        advice = did_you_mean(meant) or self.where_else(key, keys)
        self.report((*keys, key), f"unknown key;{advice} allowed: {', '.join(known)}")
        absent = [candidate for candidate in meant if candidate not in values]
        if not absent:
            return None
        self.move((*keys, key), (*keys, absent[0]))
        return absent[0]

    def where_else(self, key: str, keys: Keys) -> str:
        """` it belongs under stages.pretrain.model;`, the place nearest to where it stands."""
        places = list(where_known(self.source.values, self.root, ()))
        exact = [place for place, known in places if key in known]
        if exact:
            found = max(exact, key=lambda place: (common(place, keys), -len(place)))
            return f" it belongs {f'under {dotted(found)}' if found else 'at the top level'};"
        inside = {
            dotted((*p, k)): k for p, known in places if p[: len(keys)] == keys for k in known
        }
        return did_you_mean([path for path, k in inside.items() if k in nearest(key, [k])])

    def stage(self, values: dict[str, Any], kinds: dict[str, type], keys: Keys) -> Any:
        """A record whose type is named by its `kind`; UNKNOWN if nobody can tell which."""
        key = "kind" if "kind" in values else next(iter(nearest("kind", values)), None)
        found = keys[-1] if key is None else values[key]
        written = str(found)
        meant = [written] if written in kinds else nearest(written, kinds)
        if key is None:
            self.no_kind(kinds, keys)
        elif written not in kinds:
            allowed = NOT_WRITTEN.get(written) or f"allowed: {', '.join(kinds)}"
            self.report((*keys, key), refused(found, meant, allowed))
        if not meant or (key is None and self.source.place(keys).override):
            return UNKNOWN
        return self.record({**values, (key or "kind"): meant[0]}, kinds[meant[0]], keys)

    def no_kind(self, kinds: dict[str, type], keys: Keys) -> None:
        """A stage without kind: forgotten, or the name is misspelt on the command line."""
        others = [name for name in self.source.values[str(keys[0])] if name != keys[-1]]
        if self.source.place(keys).override:
            advice = did_you_mean(nearest(str(keys[-1]), others))
            self.report(keys, f"no such stage;{advice} stages: {', '.join(others)}")
        else:
            message = f"missing: what the stage does; allowed: {', '.join(kinds)}"
            self.report((*keys, "kind"), message)

    def report(self, keys: Keys, message: str) -> None:
        self.problems.append(Problem(self.source.place(keys), keys, message))

    def move(self, old: Keys, new: Keys) -> None:
        """What was written at one path is now found at another."""
        for keys, place in self.source.places.items():
            if keys[: len(old)] == old:
                self.places[(*new, *keys[len(old) :])] = place


UNKNOWN = object()
"""In place of a stage whose kind nobody can tell."""


def where_known(value: Any, annotation: Any, keys: Keys) -> Iterator[tuple[Keys, list[str]]]:
    """Every place of a spec that holds a record, with the keys that are allowed there."""
    inner = value if isinstance(value, dict) else {}
    if isinstance(value, list) and (item := listed_in(annotation)):
        for number, one in enumerate(value):
            yield from where_known(one, item, (*keys, number))
        return
    if item := named_in(annotation):
        for name, one in inner.items():
            yield from where_known(one, item, (*keys, name))
        return
    record = record_in(annotation) or kinds_in(annotation).get(str(inner.get("kind")))
    if record:
        known = fields_of(record)
        yield keys, list(known)
        for key, field in known.items():
            yield from where_known(inner.get(key), field.annotation, (*keys, key))


def common(a: Keys, b: Keys) -> int:
    """How many keys two paths share from the top."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    return sum(1 for _ in same)


@cache
def adapter(record: Any) -> TypeAdapter[Any]:
    """pydantic's reader of a record; making it takes longer than using it."""
    return TypeAdapter(record)


def validated(values: Any, record: type[R]) -> tuple[R | None, list[Mistake]]:
    """The record, or what keeps the values from being one.

    By way of JSON, because only there do strict records take mappings and strict tuples lists.
    """
    try:
        return adapter(record).validate_json(json.dumps(values)), []  # type: ignore[arg-type]
    except ValidationError as error:
        mistakes = [mistake_of(detail, record) for detail in error.errors(include_url=False)]
        # A value that can be of several types has an error for each; the first holds it whole.
        first = {mistake.keys: mistake for mistake in reversed(mistakes)}
        return None, [mistake for mistake in mistakes if first[mistake.keys] is mistake]


def mistake_of(detail: Any, root: type) -> Mistake:
    """A pydantic error at its path in the spec: pydantic's has the kind of a stage in between."""
    keys: Keys = ()
    annotation: Any = root
    text = ""
    for key in detail["loc"]:
        if kinds := kinds_in(annotation):
            annotation = kinds[key]
            continue
        if is_choice(annotation):
            break
        if record := record_in(annotation):
            text = fields_of(record)[key].help
        annotation = item_of(annotation, key)
        keys = (*keys, key)
    return Mistake(keys, detail["type"], detail["input"], annotation, text)


def problem_of(mistake: Mistake, source: Source) -> Problem:
    """A mistake in a user's words."""
    if mistake.error == "missing":
        message = f"missing: {mistake.help}"
    else:
        value = mistake.value
        meant = nearest(value, choices(mistake.annotation)) if isinstance(value, str) else []
        message = refused(value, meant, f"must be {describe(mistake.annotation)}")
    return Problem(source.place(mistake.keys), mistake.keys, message)


def refused(value: Any, meant: list[str], allowed: str) -> str:
    """`'fats' is not allowed; did you mean 'fast'? must be one of fast, slow`"""
    return f"{shown(value)} is not allowed;{did_you_mean(meant)} {allowed}"


def shown(value: Any) -> str:
    """A value as YAML would have it, cut if it is long."""
    nested = isinstance(value, list) and any(isinstance(one, dict | list) for one in value)
    if isinstance(value, dict) or nested or value == []:
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def without(node: Any, keys: Keys) -> Any:
    """A copy of the tree that lacks one value; a list lacks all of its values."""
    if not keys or not isinstance(node, dict) or keys[0] not in node:
        return node
    whole = len(keys) == 1 or not isinstance(node[keys[0]], dict)
    return {
        key: value if key != keys[0] else without(value, keys[1:])
        for key, value in node.items()
        if key != keys[0] or not whole
    }
