"""The JSON Schema of a spec, for editors: `# yaml-language-server: $schema=schema.json`.

pydantic makes it from the records. Added here is what it does not see: the help of inherited
fields. jobs/schema.json is this, committed; a test keeps the two equal.
"""

import json
from typing import Any

from pydantic import TypeAdapter

from jobs.shape import fields_of, records_in
from jobs.spec import SpecFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema as JSON."""
    made = TypeAdapter(SpecFile).json_schema()
    for record in records_in(SpecFile):
        described = made if record is SpecFile else made["$defs"][record.__name__]
        for key, field in fields_of(record).items():
            described["properties"][key]["description"] = field.help
    return {"$schema": DIALECT, **made, "title": "Humpty spec"}


def text() -> str:
    """The schema as it stands in the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
