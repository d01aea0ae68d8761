"""The best values of a sweep: as overrides for the command line, and as a spec that is ready."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from jobs.kinds import REFERENCES
from jobs.load import built, with_paths
from jobs.point import laid_over
from jobs.spec import Spec, SpecFile
from jobs.stages import SearchStage
from jobs.yaml_source import Source
from llm.files import write_atomic
from tune.space import Point


def write_best(
    spec: Spec, sweep: str, of: tuple[str, ...], point: Point, folder: Path
) -> tuple[Path, Path]:
    """best.txt and best.yaml in the sweep's folder."""
    patch, ready = folder / "best.txt", folder / "best.yaml"
    lines = [f"stages.{path}={written(value)}\n" for path, value in point.items()]
    write_atomic(patch, "".join(lines))
    comment = (
        f"# {spec.name} with the best values of its sweep '{sweep}':\n"
        + "".join(f"#   {line}" for line in lines)
        + "# All paths are absolute, and values that are left out are the defaults.\n"
    )
    values = best_spec(spec, sweep, of, point)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    write_atomic(ready, comment + text)
    return patch, ready


def written(value: object) -> str:
    """A value as the command line takes it."""
    return repr(value) if isinstance(value, float) else yaml.safe_dump(value).split("\n")[0]


def best_spec(spec: Spec, sweep: str, of: tuple[str, ...], point: Point) -> dict[str, Any]:
    """The values of a spec in which the sweep has been replaced by what it found."""
    source = with_swept(spec, {sweep: of[-1]})
    for path, value in point.items():
        source = laid_over(source, path, value)
    made = with_paths(built(source, spec.origin.file, spec.origin.overrides))
    values = different(made, SpecFile)
    values["name"] = f"{spec.name}-best"
    values["stages"] = {name: different(stage, type(stage)) for name, stage in made.stages.items()}
    return values


def with_swept(spec: Spec, renamed: Mapping[str, str]) -> Source:
    """The spec without sweeps; stages that name one name the last stage of its trials."""
    source = spec.origin.source
    stages = {
        name: with_references(dict(source.values["stages"][name]), stage.kind, renamed)
        for name, stage in spec.stages.items()
        if not isinstance(stage, SearchStage)
    }
    return replace(source, values={**source.values, "stages": stages})


def with_references(
    values: dict[str, Any], kind: str, renamed: Mapping[str, str]
) -> dict[str, Any]:
    """The same stage, naming others where it named the sweep."""
    for key in REFERENCES[kind]:
        if isinstance(values.get(key), list):
            values[key] = [renamed.get(name, name) for name in values[key]]
        elif key in values:
            values[key] = renamed.get(values[key], values[key])
    return values


def different(value: Any, record: type) -> dict[str, Any]:
    """The fields of a record that are not their defaults, as a spec has them."""
    made = {}
    for one in fields(record):
        inner = getattr(value, one.name)
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if one.name != "stages" and inner != default:
            made[one.name.removesuffix("_")] = plain(inner)
    return made


def plain(value: Any) -> Any:
    """A value as YAML has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return different(value, type(value))
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return value
