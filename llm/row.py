"""One row of conversations or rankings: asked for the fields of its schema by their names.

`columns` of the config says where a row holds them, so that a file is read as it is. A path goes
into objects and lists (`instances.0.output`); a key that has dots itself is found first. Whatever
is not as the schema expects is a DataError that names file, line, what is there and the remedy.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from llm.align_config import FIELDS, ChatDataConfig, PreferenceDataConfig
from llm.damage import Damage
from llm.documents import located
from llm.errors import DataError, SpecError
from llm.evaluate_config import PromptsConfig, TaskConfig
from llm.read_json import is_whole, named
from llm.shards import Unit

DataConfig = ChatDataConfig | PreferenceDataConfig | TaskConfig | PromptsConfig

Skip = Callable[[str], None]
"""Is told the reason whenever a row is left out."""

NOTHING: Any = object()
"""What is found where nothing is: null is something."""


def ignore(reason: str) -> None:
    """For those who do not count what is left out."""


def check_mapping(config: DataConfig) -> None:
    """That `columns` and `roles` speak of what there is."""
    fields = FIELDS[config.schema]
    for name in config.columns:
        if name not in fields:
            raise SpecError(
                f"data.columns: {name} is no field of schema {config.schema}, which has "
                f"{', '.join(fields)}; write `field: column`, the column being your file's"
            )
    for name, role in config.roles.items():
        if role not in ("system", "user", "assistant"):
            raise SpecError(
                f"data.roles: {name}: {role} is no role; allowed are system, user and assistant"
            )


@dataclass(frozen=True)
class Row:
    """One object of a file; `place` as in llm.reading.Document."""

    unit: Unit
    place: str
    value: dict[str, Any]
    config: DataConfig
    columns: Collection[str]
    """All that there is, whether it was read or not."""

    def error(self, what: str) -> DataError:
        """What is wrong with it, and where it is."""
        damage = Damage("no text", self.unit.path, self.place, what, 0)
        return DataError(located(self.unit, damage, "utf-8"))

    def get(self, field: str) -> Any:
        """What it holds for a field of its schema, or NOTHING."""
        return follow(self.value, self.column(field))

    def column(self, field: str) -> str:
        """Where a field is to be found."""
        return self.config.columns.get(field, field)

    def required(self, field: str) -> Any:
        """What it holds for a field without which it is nothing."""
        value = self.get(field)
        if value is NOTHING:
            raise self.error(
                f"has nothing at {self.column(field)!r} for {field!r} of schema "
                f"{self.config.schema}; its keys are {names(self.columns)}; say where it is: "
                f"columns: {{{field}: ...}}, or set another schema"
            )
        return value

    def text(self, field: str) -> str:
        """A required field that is a text."""
        return self.text_of(self.required(field), f"at {self.column(field)!r}")

    def optional_text(self, field: str) -> str:
        """A text, empty if there is none."""
        value = self.get(field)
        return "" if value is NOTHING else self.text_of(value, f"at {self.column(field)!r}")

    def text_of(self, value: Any, where: str) -> str:
        """A value as text; null is an empty one, and so can be left out."""
        if value is None:
            return ""
        if isinstance(value, bytes):
            value = value.decode(errors="surrogateescape")
        if not isinstance(value, str):
            raise self.error(f"has {named(value)} {where}; expected a text{self.hint()}")
        if not is_whole(value):
            raise self.error(f"has characters {where} that are no Unicode; remove or replace them")
        return value

    def number_of(self, value: Any, where: str) -> float:
        """A value as a finite number."""
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not math.isfinite(value):
            shown = value if isinstance(value, int | float | str) else named(value)
            raise self.error(f"has {shown!r} {where}; expected a number{self.hint()}")
        return float(value)

    def list_at(self, field: str) -> list[Any]:
        """A required field that is a list."""
        value = self.required(field)
        if not isinstance(value, list):
            found = f"{named(value)} at {self.column(field)!r}"
            raise self.error(f"has {found}; expected a list{self.hint()}")
        return value

    def hint(self) -> str:
        """What to do about a value of the wrong type."""
        return (
            f" (schema {self.config.schema}; its keys are {names(self.columns)}); columns: says "
            "where the fields are"
        )


def names(keys: Collection[str]) -> str:
    """An object's keys in words."""
    return ", ".join(keys) or "none"


def follow(value: Any, path: str) -> Any:
    """What lies at a path of keys and numbers with dots between them, or NOTHING."""
    if isinstance(value, dict) and path in value:
        return value[path]
    for part in path.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return NOTHING
    return value
