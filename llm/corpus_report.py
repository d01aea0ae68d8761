"""report.html of a corpus: its tables and samples as one page that needs nothing else.

What is safe on it, and how it looks, is llm/page.py's. Differences are marked by colour and by
underlining or striking out.
"""

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import groupby

from llm.corpus_config import CorpusConfig
from llm.corpus_tables import Ledgers, Table, share, summary, tables, title
from llm.ledger import total
from llm.metrics import size_of
from llm.page import page, shown
from llm.samples import Sample

HEADINGS = {"changed": "Cleaned", "dropped": "Dropped", "kept": "Kept"}

STYLE = """
:root { --add: #c8f0d2; --cut: #ffd7d5; }
@media (prefers-color-scheme: dark) { :root { --add: #1d4a2c; --cut: #5c2426; } }
.bar { display: flex; height: 1.25rem; margin: 1.5rem 0 .5rem; border-radius: .3rem;
  overflow: hidden; background: var(--card); }
.bar i { min-width: 1px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: right; white-space: nowrap; vertical-align: top;
  border-top: 1px solid var(--line); }
tr:first-child th { border-top: 0; background: var(--card); font-weight: 600; }
th.word, td.word { text-align: left; }
td.word { white-space: normal; overflow-wrap: anywhere; min-width: 9.5rem; max-width: 28rem; }
.pair { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }
ins { background: var(--add); text-decoration: underline; }
del { background: var(--cut); }
"""

PIECES = re.compile(r"[A-Za-z0-9]+(?:[._@+-]+[A-Za-z0-9]+)*|.", re.DOTALL)
"""What two texts are compared by: words with their dots and signs, or single characters."""

LONG = 25
"""Lines from which on a table is folded up."""


def report_page(config: CorpusConfig, ledgers: Ledgers, samples: list[Sample]) -> str:
    """The whole page."""
    body = [
        f"<h1>{shown(title(ledgers))}</h1>",
        f"<p>{shown(summary(ledgers))}</p>",
        bar(ledgers),
        *(section(table) for table in tables(config, ledgers)),
        *gallery(samples),
    ]
    return page(title(ledgers), STYLE, "\n".join(body))


def bar(ledgers: Ledgers) -> str:
    """Which part of what was read is kept."""
    whole = total(ledgers.values())
    read = max(1, whole.read.documents)
    parts = [
        ("train", "kept", whole.train),
        ("validation", "held", whole.validation),
        ("dropped", "lost", whole.lost),
    ]
    pieces = "".join(
        f'<i style="width: {amount.documents / read:.3%}; background: var(--{colour})"></i>'
        for _, colour, amount in parts
        if amount.documents
    )
    keys = "".join(
        f'<li style="--colour: var(--{colour})"><b>{share(amount.documents, read)}</b> {name}, '
        f"{amount.documents:,} documents, {size_of(amount.bytes)}</li>"
        for name, colour, amount in parts
    )
    return f'<div class="bar">{pieces}</div><ul class="key">{keys}</ul>'


def section(table: Table) -> str:
    """A table below its heading; a wide one scrolls by itself."""
    head = cells("th", table.columns, table.texts)
    rows = "\n".join(f"<tr>{cells('td', row, table.texts)}</tr>" for row in table.rows)
    grid = f'<div class="scroll"><table>\n<tr>{head}</tr>\n{rows}\n</table></div>'
    if len(table.rows) > LONG:
        grid = f"<details><summary>{len(table.rows)} lines</summary>{grid}</details>"
    return f"<h2>{shown(table.heading)}</h2>\n<p>{shown(table.note)}</p>\n{grid}"


def cells(tag: str, texts: Iterable[str], words: int) -> str:
    """A row's cells; the first are words, the others numbers."""
    kinds = (' class="word"' if column < words else "" for column, _ in enumerate(texts))
    return "".join(f"<{tag}{k}>{shown(t)}</{tag}>" for k, t in zip(kinds, texts, strict=True))


# -- samples ---------------------------------------------------------------------------------------


def gallery(samples: list[Sample]) -> Iterator[str]:
    """All samples, by what happened to them."""
    for kind, heading in HEADINGS.items():
        chosen = [sample for sample in samples if sample.kind == kind]
        if chosen:
            yield f"<h2>{heading}</h2>"
        for name, group in groupby(chosen, key=lambda sample: sample.name):
            yield f"<h3>{shown(name)}</h3>"
            yield from map(figure, group)


def figure(sample: Sample) -> str:
    """One sample; two texts stand side by side where there is room."""
    if sample.kind == "kept" or not (sample.after or sample.kind == "changed"):
        return f"<figure>{text_of(sample.id, shown(sample.before))}</figure>"
    before, after = compared(sample.before, sample.after)
    names = (f"dropped: {sample.id}", f"kept: {sample.other}")
    if sample.kind == "changed":
        names = (f"before: {sample.id}", "after")
    pair = f"{text_of(names[0], before)}{text_of(names[1], after)}"
    return f'<figure class="pair">{pair}</figure>'


def text_of(name: str, text: str) -> str:
    """A text, already safe, and what it is."""
    return f'<div><figcaption>{shown(name)}</figcaption><pre dir="auto">{text}</pre></div>'


def compared(before: str, after: str) -> tuple[str, str]:
    """Two texts with what is not in the other one marked."""
    one, two = PIECES.findall(before), PIECES.findall(after)
    old, new = [], []
    matcher = SequenceMatcher(None, one, two, autojunk=False)
    for kind, i, j, k, m in matcher.get_opcodes():
        cut, add = shown("".join(one[i:j])), shown("".join(two[k:m]))
        if kind == "equal":
            old.append(cut)
            new.append(add)
            continue
        if cut:
            old.append(f"<del>{with_ends(cut)}</del>")
        if add:
            new.append(f"<ins>{with_ends(add)}</ins>")
    return "".join(old), "".join(new)


def with_ends(text: str) -> str:
    """Line ends as something to be seen."""
    return text.replace("\n", "↵\n")
