"""The tables that tell of a corpus, as plain strings: the data card and the report page show them.

Every number comes from the ledgers, so both say the same, and what they say adds up.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from llm.corpus_config import CorpusConfig
from llm.ledger import SHOWN, Amount, Ledger, total
from llm.metrics import size_of

Ledgers = dict[str, Ledger]


class Table(NamedTuple):
    """Rows of text below a heading; the first `texts` columns are words, the others numbers."""

    heading: str
    note: str
    columns: Sequence[str]
    rows: list[list[str]]
    texts: int = 1


def tables(config: CorpusConfig, ledgers: Ledgers) -> list[Table]:
    """All tables that have rows."""
    found = [
        sources_table(config, ledgers),
        fates_table(ledgers),
        changes_table(ledgers),
        damages_table(ledgers),
    ]
    return [table for table in found if table.rows]


def sources_table(config: CorpusConfig, ledgers: Ledgers) -> Table:
    """What was read of each source, and what is left."""
    rows = []
    for name, ledger in (ledgers | {"all": total(ledgers.values())}).items():
        source = config.sources.get(name) if name in ledgers else None
        weight = "" if source is None or source.weight is None else f"{source.weight:g}"
        amounts = (ledger.read, ledger.train, ledger.validation)
        counts = [text for a in amounts for text in (f"{a.documents:,}", size_of(a.bytes))]
        rows.append([name, *counts, share(ledger.kept.bytes, ledger.read.bytes), weight])
    if len(ledgers) == 1:
        rows.pop()
    columns = ["source", "read", "", "train", "", "validation", "", "bytes kept", "weight"]
    return Table("Sources", "Documents and bytes of text (UTF-8).", columns, rows)


def fates_table(ledgers: Ledgers) -> Table:
    """Where all documents went: the books."""
    whole = total(ledgers.values())
    lines: list[tuple[str, Callable[[Ledger], Amount]]] = [
        ("read", lambda ledger: ledger.read),
        *((f"- {reason}", partial(dropped, reason=reason)) for reason, _ in whole.reasons()),
        ("= train", lambda ledger: ledger.train),
        ("+ validation", lambda ledger: ledger.validation),
    ]
    each = ledgers if len(ledgers) > 1 else {}
    rows = []
    for name, amount_of in lines:
        amount = amount_of(whole)
        of_all = share(amount.documents, whole.read.documents)
        counts = [f"{amount_of(ledger).documents:,}" for ledger in each.values()]
        rows.append([name, f"{amount.documents:,}", of_all, size_of(amount.bytes), *counts])
    rows.insert(-2, ["- removed by cleaning", "", "", size_of(whole.removed), *([""] * len(each))])
    note = (
        "Every document that was read is kept or dropped for one reason, the first that applied. "
        "Their bytes are those after cleaning; what cleaning removed has a line of its own."
    )
    return Table("Books", note, ["", "documents", "share", "bytes", *each], rows)


def dropped(ledger: Ledger, reason: str) -> Amount:
    """What was dropped for a reason."""
    return ledger.dropped.get(reason, Amount())


def changes_table(ledgers: Ledgers) -> Table:
    """What cleaning did."""
    changes = total(ledgers.values()).changes
    rows = [[n, f"{c.documents:,}", f"{c.changes:,}"] for n, c in sorted(changes.items())]
    note = "Steps of cleaning, the documents they changed, and how often they did so in them."
    return Table("Cleaning", note, ["step", "documents", "changes"], rows)


def damages_table(ledgers: Ledgers) -> Table:
    """Files that could not be read, or not all of them."""
    bad = list(total(ledgers.values()).bad.values())
    rows = [[one.file, one.reason, one.place, one.detail, f"{one.count:,}"] for one in bad[:SHOWN]]
    files = len({one.file for one in bad})
    note = f"{files:,} files with damaged, empty or too large documents, and the first of each kind"
    note += f"; the first {SHOWN} are listed." if len(bad) > SHOWN else "."
    columns = ["file", "reason", "at", "what", "documents"]
    return Table("Damaged files", note, columns, rows, texts=4)


def summary(ledgers: Ledgers) -> str:
    """The corpus in a sentence."""
    whole = total(ledgers.values())
    kept, read = whole.kept, whole.read
    return (
        f"{kept.documents:,} documents with {size_of(kept.bytes)} of text, made of "
        f"{read.documents:,} documents with {size_of(read.bytes)} from "
        f"{len(ledgers)} source{'s' if len(ledgers) > 1 else ''}."
    )


def title(ledgers: Ledgers) -> str:
    """What the corpus is called."""
    names = list(ledgers)
    return "Corpus of " + " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def share(part: int, whole: int) -> str:
    """A percentage, or nothing of nothing."""
    return f"{part / whole:.1%}" if whole else ""
