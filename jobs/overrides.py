"""Overrides from the command line: `stages.pretrain.optim.lr=1e-3` laid over a spec.

The value is read like one of the file. What starts with a bracket, brace or quote is YAML; anything
else is one plain scalar, so that a text with colons needs no second pair of quotes.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jobs.scalars import plain_scalar
from jobs.yaml_source import Builder, Keys, Place, Problem, Source, kind_of, with_problems
from llm.errors import SpecError


def override(source: Source, written: str, number: int) -> Source:
    """`a.b=c` laid over the source, as the n-th of the command line."""
    place = Place(f"command line: {written}", number, Path.cwd(), override=True)
    path, equals, text = written.partition("=")
    names = tuple(path.split("."))
    if not equals or not all(names):
        return with_problems(source, [Problem(place, (), "an override is written key.key=value")])
    try:
        keys = tuple(path_in(source.values, names))
    except ValueError as error:
        return with_problems(source, [Problem(place, names, str(error))])
    builder = Builder(text, lambda line: place, keys)
    try:
        value = builder.document() if text.startswith(tuple("[{\"'")) else plain_scalar(text)
    except SpecError:
        return with_problems(source, builder.problems)
    except ValueError as error:
        return with_problems(source, [Problem(place, keys, str(error))])
    places = {at: known for at, known in source.places.items() if at[: len(keys)] != keys}
    made = {keys[:depth]: place for depth in range(1, len(keys) + 1)}
    values = replaced(source.values, keys, value)
    laid_over = Source(values, {**made, **places, **builder.places}, source.problems)
    return with_problems(laid_over, builder.problems)


def path_in(values: Any, names: Iterable[str]) -> Iterator[str | int]:
    """The path that an override names; positions in lists become numbers."""
    node, above = values, ""
    for name in names:
        if isinstance(node, list):
            if not name.isdecimal() or int(name) >= len(node):
                raise ValueError(f"{above} is a list of {len(node)}, numbered from 0")
            node = node[int(name)]
            yield int(name)
        elif node is None or isinstance(node, dict):
            node = (node or {}).get(name)
            yield name
        else:
            raise ValueError(f"{above} is {kind_of(node)}; there are no keys in it")
        above = f"{above}.{name}".lstrip(".")


def replaced(node: Any, keys: Keys, value: Any) -> Any:
    """A copy of the tree with one value replaced; mappings on the way to it are made."""
    if not keys:
        return value
    if isinstance(node, list):
        return [replaced(x, keys[1:], value) if i == keys[0] else x for i, x in enumerate(node)]
    node = node or {}
    return {**node, keys[0]: replaced(node.get(keys[0]), keys[1:], value)}
