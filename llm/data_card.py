"""README.md of a corpus: the data card that Hugging Face's hub and people read.

Its head tells where the splits are, so `datasets.load_dataset(folder)` finds them. File names and
messages in it come from files nobody has checked; they are escaped so that they stay text.
"""

import re
from dataclasses import asdict
from typing import Any

import yaml

from llm.corpus_config import CorpusConfig
from llm.corpus_tables import Ledgers, Table, summary, tables, title
from llm.ledger import total

SIZES = {
    10**3: "n<1K",
    10**4: "1K<n<10K",
    10**5: "10K<n<100K",
    10**6: "100K<n<1M",
    10**7: "1M<n<10M",
    10**8: "10M<n<100M",
    10**9: "100M<n<1B",
    10**10: "1B<n<10B",
}
"""How Hugging Face's hub calls numbers of documents below these."""

FORMAT = """\
`train/` and `validation/` hold parquet files with the columns `id` (source, file and place in it),
`text`, `url` (empty if unknown) and `source`. Which documents are held out for validation
depends on their text alone. `corpus.json` lists the files with their digests, `ledger.json` has all
counts, `samples.jsonl` and `report.html` show documents before and after cleaning and examples of
what was dropped. The latter two hold text as it was found, personal data included: keep them to
yourself when you publish the corpus."""


def data_card(config: CorpusConfig, ledgers: Ledgers) -> str:
    """The whole text."""
    parts = [
        f"---\n{as_yaml(head(config, ledgers))}---",
        f"# {title(ledgers)}",
        summary(ledgers),
        "## Files",
        FORMAT,
        *(markdown(table) for table in tables(config, ledgers)),
        "## Recipe",
        f"```yaml\n{as_yaml(recipe(config))}```",
    ]
    return "\n\n".join(parts) + "\n"


def head(config: CorpusConfig, ledgers: Ledgers) -> dict[str, Any]:
    """What Hugging Face's hub wants to know."""
    whole = total(ledgers.values())
    count = whole.kept.documents
    splits = [("train", whole.train), ("validation", whole.validation)]
    files = [{"split": n, "path": f"{n}/*.parquet"} for n, amount in splits if amount.documents]
    language = {"language": list(config.filter.language.keep)} if config.filter.language else {}
    return {
        "pretty_name": title(ledgers),
        **language,
        "task_categories": ["text-generation"],
        "size_categories": [next((name for most, name in SIZES.items() if count < most), "n>10B")],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def recipe(config: CorpusConfig) -> dict[str, Any]:
    """The config as a spec would have it, without what is not set."""
    return {key: value for key, value in plain(asdict(config)).items() if value not in (None, {})}


def plain(value: Any) -> Any:
    """Tuples as lists, and no keys without a value."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if inner is not None}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def as_yaml(value: dict[str, Any]) -> str:
    """A mapping in its own order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


def markdown(table: Table) -> str:
    """A table with its heading."""
    count = len(table.columns)
    rules = [":--" if column < table.texts else "--:" for column in range(count)]
    cells = [list(table.columns), rules, *([escaped(cell) for cell in row] for row in table.rows)]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in cells)
    return f"## {table.heading}\n\n{table.note}\n\n{lines}"


def escaped(text: str) -> str:
    """A text of which nothing is taken for Markdown or HTML."""
    line = " ".join(text.split())
    safe = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$!])", r"\\\1", safe)
