"""What a record type allows, in words: its keys, their help, their values, the nearest of a typo.

Everything is read off the types themselves, so the messages of a wrong spec, the JSON Schema and
the code can never disagree.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Discriminator
from pydantic.fields import FieldInfo

from llm.config import OneOrMany, OrAuto


@dataclass(frozen=True)
class Field:
    """One key of a record, as a spec writes it."""

    key: str
    annotation: Any
    help: str
    required: bool


@cache
def fields_of(record: type) -> dict[str, Field]:
    """The keys of a record, by the name that a spec uses."""
    hints = get_type_hints(record, include_extras=True)
    texts = help_of(record)
    own_first = sorted(fields(record), key=lambda field: field.name not in record.__annotations__)
    made = [
        Field(
            key=alias_of(hints[field.name]) or field.name,
            annotation=hints[field.name],
            help=texts[field.name],
            required=field.default is MISSING and field.default_factory is MISSING,
        )
        for field in own_first
    ]
    return {field.key: field for field in made}


def alias_of(annotation: Any) -> str | None:
    """The name of a field whose own name Python does not allow, such as `from`."""
    infos = [meta for meta in parts(annotation)[1] if isinstance(meta, FieldInfo)]
    return infos[0].alias if infos else None


@cache
def help_of(record: type) -> dict[str, str]:
    """The string below each field, inherited fields included."""
    texts: dict[str, str] = {}
    for base in reversed(record.__mro__):
        if is_dataclass(base):
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(tree, ast.ClassDef)
            texts |= strings_below_fields(tree.body)
    return texts


def strings_below_fields(body: Sequence[ast.stmt]) -> dict[str, str]:
    """The help of every field that has one."""
    texts = {}
    for field, below in pairwise(body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                texts[name] = inspect.cleandoc(text)
    return texts


def parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The bare type of an annotation, and its metadata."""
    if get_origin(annotation) is Annotated:
        bare, *metadata = get_args(annotation)
        return bare, tuple(metadata)
    return annotation, ()


def record_in(annotation: Any) -> type | None:
    """The record that a value must be, if it must be one, or null."""
    bare, _ = parts(annotation)
    if get_origin(bare) in (Union, UnionType):
        others = [one for one in get_args(bare) if one is not NoneType]
        bare = others[0] if len(others) == 1 else None
    return bare if is_dataclass(bare) and isinstance(bare, type) else None


def is_choice(annotation: Any) -> bool:
    """Whether a value may be of several types that no word in it tells apart: `2`, `[1, 2]`."""
    bare, _ = parts(annotation)
    others = [one for one in get_args(bare) if one is not NoneType]
    return get_origin(bare) in (Union, UnionType) and len(others) > 1


def is_group(annotation: Any) -> bool:
    """Whether a value turns something on by being there, even if it is empty: `gopher: {}`."""
    record, optional = record_in(annotation), NoneType in get_args(parts(annotation)[0])
    if record is None or not optional:
        return False
    return not any(field.required for field in fields_of(record).values())


def records_in(annotation: Any) -> Iterator[type]:
    """Every record of which a value can be made, itself and all that is inside it."""
    inner: list[Any] = list(kinds_in(annotation).values())
    if item := named_in(annotation) or listed_in(annotation):
        inner.append(item)
    if record := record_in(annotation):
        yield record
        inner += [field.annotation for field in fields_of(record).values()]
    for one in inner:
        yield from records_in(one)


def named_in(annotation: Any) -> Any:
    """What the values of a mapping must be whose keys the user chooses; None if it is none."""
    bare, _ = parts(annotation)
    return get_args(bare)[1] if get_origin(bare) is dict else None


def listed_in(annotation: Any) -> type | None:
    """The record that the items of a list must be; None if it is no list of records."""
    bare, _ = parts(annotation)
    arguments = get_args(bare)
    if get_origin(bare) is not tuple or Ellipsis not in arguments:
        return None
    return record_in(arguments[0])


@cache
def kinds_in(annotation: Any) -> dict[str, type]:
    """The records that a value can be, by the word under its key `kind`."""
    bare, metadata = parts(annotation)
    if not any(isinstance(meta, Discriminator) for meta in metadata):
        return {}
    return {choices(fields_of(record)["kind"].annotation)[0]: record for record in get_args(bare)}


def item_of(annotation: Any, key: str | int) -> Any:
    """What the value under a key, or at a position of a list, must be."""
    bare, _ = parts(annotation)
    arguments = get_args(bare)
    if record := record_in(annotation):
        return fields_of(record)[str(key)].annotation
    if item := named_in(annotation):
        return item
    assert get_origin(bare) is tuple, f"{annotation} has no item {key}"
    return arguments[0] if Ellipsis in arguments else arguments[int(key)]


def choices(annotation: Any) -> tuple[str, ...]:
    """The words that a value can be, if it is one of a fixed set; `auto` included."""
    bare, metadata = parts(annotation)
    words = get_args(bare) if get_origin(bare) is Literal else ()
    return (*words, "auto") if is_auto(metadata) else words


def is_auto(metadata: Iterable[Any]) -> bool:
    """Whether the word `auto` is allowed."""
    return any(meta is OrAuto or isinstance(meta, OrAuto) for meta in metadata)


NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
BOUNDS = {Gt: "greater than", Ge: "of at least", Lt: "less than", Le: "of at most"}
SIGNS = {Gt: "gt", Ge: "ge", Lt: "lt", Le: "le"}


def describe(annotation: Any) -> str:
    """What is allowed, to follow "must be": `a whole number greater than 0, or auto`."""
    bare, metadata = parts(annotation)
    if kinds_in(annotation):
        return "a mapping with the key kind"
    bounds = " and ".join(
        f"{BOUNDS[type(meta)]} {getattr(meta, SIGNS[type(meta)])}"
        for meta in metadata
        if type(meta) in BOUNDS
    )
    text = f"{describe_bare(bare, metadata)} {bounds}".rstrip()
    return f"{text}, or auto" if is_auto(metadata) else text


def describe_bare(bare: Any, metadata: tuple[Any, ...]) -> str:
    """The type alone."""
    arguments = get_args(bare)
    if bare in NAMES:
        return NAMES[bare]
    if get_origin(bare) is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if get_origin(bare) in (Union, UnionType):
        words = " or ".join("null" if one is NoneType else describe(one) for one in arguments)
        defaults = ", {} for all defaults, or null"
        return words.replace(" or null", defaults) if is_group(bare) else words
    if get_origin(bare) is tuple:
        return describe_tuple(arguments, metadata)
    if record := record_in(bare):
        return "a mapping with the keys " + ", ".join(fields_of(record))
    return "a mapping of names, at least one"


def describe_tuple(arguments: tuple[Any, ...], metadata: tuple[Any, ...]) -> str:
    """A list of any length, or of a fixed one."""
    each = describe(arguments[0])
    if Ellipsis not in arguments:
        return f"a list of {len(arguments)}, each {each}"
    marks = [meta for meta in metadata if isinstance(meta, OneOrMany)]
    single = f"{each} or " if marks else ""
    least = next((mark.least for mark in marks), 0)
    return f"{single}a list of {each}" + (f", at least {least}" if least else "")


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The known words that a typo could have meant, at equal distance; none if all are far."""
    distances = {candidate: distance(word.lower(), candidate.lower()) for candidate in known}
    least = min(distances.values(), default=0)
    far = max(1, len(word) // 3)
    return [candidate for candidate, d in distances.items() if d == least and d <= far]


def distance(a: str, b: str) -> int:
    """Edits from a to b: insert, drop or replace a letter, or swap two neighbours."""
    rows = [list(range(len(b) + 1))]
    for i, letter in enumerate(a, start=1):
        row = [i]
        for j, other in enumerate(b, start=1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]


def did_you_mean(words: Sequence[str]) -> str:
    """` did you mean 'lr'?`, or nothing."""
    return f" did you mean {' or '.join(map(repr, words[:3]))}?" if words else ""
