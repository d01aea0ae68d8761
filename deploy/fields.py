"""Checks that fields of requests have in common, each with the JSON Schema that tells of it.

Lists and objects stop at their first error: a body of two megabytes may hold a million of them.
"""

import re
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictStr,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, to_json

from deploy.errors import ApiError

STOP_CHARACTERS, BIASES, METADATA = 256, 1024, 16


class Fields(BaseModel):
    """A strict record: "1" is no number, 1 is no boolean, unknown names are errors."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def wrong(code: str, message: str, **values: Any) -> PydanticCustomError:
    """An error whose message is ours; `values` fill its {names}."""
    return PydanticCustomError(code, message, values)


def stops(most: int) -> Any:
    """Type of a field with so many strings that end a text."""

    def read(value: Any) -> tuple[str, ...] | None:
        if value is None:
            return None
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list):
            raise wrong("invalid_type", "must be a string or an array of strings")
        if len(found) > most:
            raise wrong("array_above_max_length", "has more than {most} strings", most=most)
        if not all(isinstance(stop, str) for stop in found):
            raise wrong("invalid_type", "must be a string or an array of strings")
        if "" in found:
            raise wrong("invalid_value", "has an empty string, which would end every text at once")
        if any(len(stop) > STOP_CHARACTERS for stop in found):
            raise wrong(
                "string_above_max_length",
                "has a string of more than {most} characters",
                most=STOP_CHARACTERS,
            )
        return tuple(found)

    one = {"type": "string", "minLength": 1, "maxLength": STOP_CHARACTERS}
    several = {"type": "array", "maxItems": most, "items": one}
    schema = WithJsonSchema({"anyOf": [one, several, {"type": "null"}]})
    return Annotated[Any, PlainValidator(read), schema]


def read_bias(value: Any) -> dict[int, float] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise wrong("invalid_type", "must be an object of token numbers and biases")
    if len(value) > BIASES:
        raise wrong("object_above_max_properties", "has more than {most} tokens", most=BIASES)
    for token, bias in value.items():
        if not re.fullmatch(r"[0-9]{1,9}", token):
            raise wrong("invalid_value", "has a key that is no token number: its keys are digits")
        if type(bias) not in (int, float) or not -100 <= bias <= 100:
            raise wrong("invalid_value", "has a bias that is no number from -100 to 100")
    return {int(token): float(bias) for token, bias in value.items()}


def read_metadata(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise wrong("invalid_type", "must be an object of strings")
    if len(value) > METADATA or any(len(k) > 64 or len(v) > 512 for k, v in value.items()):
        raise wrong(
            "invalid_value",
            "holds too much: {most} strings of 512 characters with names of 64 at most",
            most=METADATA,
        )
    return value


def whole(value: Any) -> Any:
    """1.0 is a whole number in JSON Schema; in Python it is not."""
    return int(value) if type(value) is float and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(whole)]

Bias = Annotated[
    Any,
    PlainValidator(read_bias),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "object",
                    "maxProperties": BIASES,
                    "propertyNames": {"pattern": "^[0-9]{1,9}$"},
                    "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
                },
                {"type": "null"},
            ]
        }
    ),
]

Metadata = Annotated[
    Any,
    PlainValidator(read_metadata),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "object",
                    "maxProperties": METADATA,
                    "propertyNames": {"maxLength": 64},
                    "additionalProperties": {"type": "string", "maxLength": 512},
                },
                {"type": "null"},
            ]
        }
    ),
]

OWN_CODES = frozenset(
    {
        "invalid_type",
        "invalid_value",
        "unknown_parameter",
        "unsupported_parameter",
        "unsupported_value",
        "array_above_max_length",
        "string_above_max_length",
        "object_above_max_properties",
    }
)
"""What `wrong` is called with; most are OpenAI's."""

ShortText = Annotated[StrictStr, Field(max_length=512)]

SENTENCES = {
    "missing": "is missing",
    "too_short": "must not be empty",
    "too_long": "must have {max_length} items at most",
    "string_too_long": "must have {max_length} characters at most",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "list_type": "must be an array",
    "model_type": "must be an object",
}
"""Instead of pydantic's, which speak of Python."""

JSON_NAMES = {dict: "an object", list: "an array", type(None): "null"}


def explained(error: ValidationError) -> ApiError:
    """The first error as one sentence: where, what is allowed, what was found."""
    first = error.errors(include_url=False)[0]
    param, kind = path_of(first["loc"]), first["type"]
    says = SENTENCES.get(kind) or first["msg"].replace("Input should", "must")
    says = says.format(**first.get("ctx", {})) if kind in SENTENCES else says
    return ApiError(400, code_of(kind), f"{param} {says}{found(kind, first['input'])}", param)


def code_of(kind: str) -> str:
    """OpenAI's word for pydantic's; our own errors have theirs already."""
    if kind == "missing":
        return "missing_required_parameter"
    if kind.endswith(("_type", "_parsing")) and kind != "invalid_type":
        return "invalid_type"
    return kind if kind in OWN_CODES else "invalid_value"


def found(kind: str, value: Any) -> str:
    """What was sent, if it is short: long values would only be in the way."""
    if kind in OWN_CODES or kind in ("missing", "too_short", "too_long", "string_too_long"):
        return ""
    shown = JSON_NAMES.get(type(value)) or to_json(value, inf_nan_mode="strings").decode()
    return f", not {shown}" if len(shown) <= 40 else ""


def path_of(places: tuple[int | str, ...]) -> str:
    """messages[0].content from ("messages", 0, "content")."""
    return "".join(
        f"[{place}]" if isinstance(place, int) else f".{place}" for place in places
    ).lstrip(".")


def like(name: str, known: list[str]) -> str:
    """A suggestion, if something similar is known."""
    close = get_close_matches(name[:64], known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
