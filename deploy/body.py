"""Bodies of requests: bytes become an object, or an error that says where they stop being JSON.

The parser is strict (no NaN, no second value behind the first, no half surrogates) and gives up at
200 levels by itself. Before it makes a million lists of two megabytes, their brackets are counted;
that and depth are seen in the skeleton of a body: its brackets, without what they hold.
"""

import re
from typing import Any

from pydantic_core import from_json

from deploy.errors import ApiError

DEPTH = 32
"""Levels of lists and objects in each other; our deepest request has 5."""

CONTAINERS = 20_000
"""Lists and objects of a body; 4,096 messages in a few parts each have that many."""

TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)

ALIKE = bytes.maketrans(b"{}", b"[]")

NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))

NAMES = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def parse(body: bytes) -> dict[str, Any]:
    """The object that a body holds."""
    bones = skeleton(body)
    if len(bones) > 2 * CONTAINERS:
        raise invalid(f"the body has more than {CONTAINERS} lists and objects; send less")
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise invalid(f"the body is not JSON: {error}; send one JSON object in UTF-8") from None
    if too_deep(bones):
        raise invalid(f"the body has more than {DEPTH} levels of lists and objects")
    if not isinstance(value, dict):
        found = NAMES[type(value)]
        raise invalid(f'the body is {found}, but must be an object: {{"model": ..., ...}}')
    return value


def invalid(message: str) -> ApiError:
    return ApiError(400, "invalid_json", message)


def skeleton(body: bytes) -> bytes:
    """The brackets outside of texts, all of one kind; nothing if they are too few to matter."""
    if body.count(b"[") + body.count(b"{") <= DEPTH:
        return b""
    return TEXT.sub(b"", body).translate(ALIKE, NO_BRACKET)


def too_deep(bones: bytes) -> bool:
    """Whether brackets that all have their partners are deeper than DEPTH.

    Each round takes the innermost pairs off: thousandths of a second where a walk through the
    values would take Python one.
    """
    for _ in range(DEPTH):
        if not bones:
            return False
        bones = bones.replace(b"[]", b"")
    return bool(bones)
