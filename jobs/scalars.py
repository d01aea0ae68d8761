"""What an unquoted word of YAML means: the core schema of YAML 1.2.

Only true and false are booleans (`no` and `on` are text), `3e-4` is a number, dates and 12:30 are
text. One thing more than the schema: whole numbers may be written 1_000_000. One thing less:
infinities, nan and whole numbers beyond 64 bits are refused.
"""

import math
import re

NULLS = {"", "~", "null", "Null", "NULL"}
TRUE = {"true", "True", "TRUE"}
FALSE = {"false", "False", "FALSE"}
WHOLE = re.compile(r"[-+]?\d+(_\d+)*")
OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
DECIMAL = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?")
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def plain_scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means; ValueError for a number that no computer holds."""
    if text in NULLS:
        return None
    if text in TRUE or text in FALSE:
        return text in TRUE
    if not text.isascii():
        return text
    if WHOLE.fullmatch(text) or OTHER_BASE.fullmatch(text):
        return whole_number(text)
    if NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not allowed; a number must be finite")
    if not DECIMAL.fullmatch(text):
        return text
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def whole_number(text: str) -> int:
    """A whole number of at most 64 bits."""
    base = 0 if text.startswith(("0o", "0x")) else 10
    number = int(text, base) if len(text) < 100 else 1 << 64
    if abs(number) >= 1 << 63:
        raise ValueError(f"{text[:40]} is too large a number")
    return number
