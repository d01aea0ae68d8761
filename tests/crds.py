"""KubeRay's resource definitions as validators: strict, and with their defaults applied."""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CRDS = Path(__file__).parent.parent.parent / "shared/data/h_schemas/kuberay_crds"


@cache
def definition(kind: str) -> dict[str, Any]:
    """The schema of version v1."""
    path = CRDS / f"ray.io_{kind.lower()}s.yaml"
    if not path.exists():
        pytest.skip(f"needs {path}")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    versions = yaml.load(path.read_text(), Loader=loader)["spec"]["versions"]
    [found] = [one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == "v1"]
    return strict(found)


def strict(schema: Any) -> Any:
    """As the API server with strict field validation: what is not listed is an error."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if made.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    listed = isinstance(made.get("properties"), dict)
    if listed and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """What the API server makes of an object before it validates it."""
    if isinstance(value, list):
        return [with_defaults(one, schema.get("items", {})) for one in value]
    if not isinstance(value, dict):
        return value
    known = schema.get("properties", {})
    defaults = {key: one["default"] for key, one in known.items() if "default" in one}
    other = schema.get("additionalProperties")
    inner = {key: known.get(key, other if isinstance(other, dict) else {}) for key in value}
    return defaults | {key: with_defaults(one, inner[key]) for key, one in value.items()}


def complaints(manifest: dict[str, Any]) -> list[str]:
    """What the API server would refuse; metadata is Kubernetes' own and not described there."""
    schema = definition(manifest["kind"])
    schema = {**schema, "properties": {**schema["properties"], "metadata": {"type": "object"}}}
    validator = jsonschema.Draft202012Validator(schema)
    return [
        f"{'.'.join(map(str, error.path))}: {error.message[:200]}"
        for error in validator.iter_errors(with_defaults(manifest, schema))
    ]
