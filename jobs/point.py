"""Values of a trial laid over a spec, as if they stood in the file.

`stage.key.key` and a value make a spec that is looked at as strictly as the file was, so a trial is
an ordinary run of an ordinary spec.
"""

from dataclasses import replace

from jobs.overrides import path_in, replaced
from jobs.yaml_source import Keys, Place, Source
from tune.config import Scalar


def keys_of(source: Source, path: str) -> Keys:
    """Where a field of a space stands in the spec; ValueError if it is inside a plain value."""
    return tuple(path_in(source.values, ("stages", *path.split("."))))


def laid_over(source: Source, path: str, value: Scalar) -> Source:
    """The spec with another value of one field."""
    keys = keys_of(source, path)
    place = Place(f"trial: {path}={value}", 1, source.place(keys[:2]).folder, override=True)
    places = {at: known for at, known in source.places.items() if at[: len(keys)] != keys}
    made = {keys[:depth]: place for depth in range(3, len(keys) + 1)}
    return replace(
        source,
        values=replaced(source.values, keys, plain(value)),
        places={**made, **places},
    )


def plain(value: Scalar) -> Scalar:
    """Steps of a range are numbers with a point; 4.0 layers are 4 layers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
