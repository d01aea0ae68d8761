"""What goes wrong with a file, a line or a record, and what becomes of it.

A reader hands every record it cannot give to a function `bad`. `fail`, the usual one, makes an
error of it; a corpus counts it under its reason and goes on. So records read are always documents
given plus damages reported, each once.

Three reasons are no damage, only a choice of what is text: `fail` lets them pass.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from llm.errors import DataError

Reason = Literal[
    "damaged file",  # what follows in this file cannot be read: cut short, not what its name says
    "damaged record",  # one record breaks the rules of its format
    "invalid json",  # a line is not JSON
    "not an object",  # a line is JSON, but no object with keys
    "no text",  # the text's key or column is missing, or holds something else than a string
    "no id",  # the document's id is missing, or neither a string nor a whole number
    "invalid encoding",  # bytes that mean nothing in the file's encoding
    "too large",  # longer than the largest document
    "empty",  # null, nothing but white space, or a file without bytes
    "not a page",  # a web record that is no text: an image, a redirection, an error's page
]

NO_ERROR: tuple[Reason, ...] = ("too large", "empty", "not a page")


class Damage(NamedTuple):
    """A record that is left out, or a file from some place on."""

    reason: Reason
    path: str
    place: str
    """As `Document.place`; empty where the whole file is meant."""
    detail: str
    """What is wrong, what is expected and the remedy, to be read after the path."""
    bytes: int
    """Size of what is left out, as far as it is known."""


Bad = Callable[[Damage], None]


class DamageError(DataError):
    """A damage that nobody passes over."""

    def __init__(self, damage: Damage) -> None:
        where = f"{damage.path}, at {damage.place}" if damage.place else damage.path
        super().__init__(f"{where}: {damage.detail}")
        self.damage = damage

    def __reduce__(self) -> tuple[type["DamageError"], tuple[Damage]]:
        return DamageError, (self.damage,)


def fail(damage: Damage) -> None:
    """Raise what is an error."""
    if damage.reason not in NO_ERROR:
        raise DamageError(damage)
