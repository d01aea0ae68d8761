"""report.html of a corpus: its tables and samples as one page that needs nothing else.

Texts on it are whatever the web holds. They are escaped, what cannot be seen is spelled out
(U+202E, a right-to-left override, would turn the rest of the line around), and a policy in the
page's head forbids scripts and everything from elsewhere. Differences are marked by colour and by
underlining or striking out. Light or dark is what the reader's system says.
"""

import re
from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from html import escape
from itertools import groupby

from llm.corpus_config import CorpusConfig
from llm.corpus_tables import Ledgers, Table, share, summary, tables, title
from llm.ledger import total
from llm.metrics import size_of
from llm.samples import Sample

HEADINGS = {"changed": "Cleaned", "dropped": "Dropped", "kept": "Kept"}

STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --page: #fff; --card: #f6f8fa; --kept: #2f7d4f; --held: #2f6fb0; --lost: #c9822b;
  --add: #c8f0d2; --cut: #ffd7d5; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9aa5b1; --line: #3a424c;
  --page: #0f1419; --card: #182028; --kept: #57b37c; --held: #6aa5e0; --lost: #dd9d4d;
  --add: #1d4a2c; --cut: #5c2426; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .25rem 0 .75rem; color: var(--soft); max-width: 46rem; }
.bar { display: flex; height: 1.25rem; margin: 1.5rem 0 .5rem; border-radius: .3rem;
  overflow: hidden; background: var(--card); }
.bar i { min-width: 1px; }
.key { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; margin: 0;
  list-style: none; }
.key b { font-weight: 600; }
.key li::before { content: ""; display: inline-block; width: .7rem; height: .7rem;
  margin-right: .4rem; border-radius: .15rem; background: var(--colour); }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: right; white-space: nowrap; vertical-align: top;
  border-top: 1px solid var(--line); }
tr:first-child th { border-top: 0; background: var(--card); font-weight: 600; }
th.word, td.word { text-align: left; }
td.word { white-space: normal; overflow-wrap: anywhere; min-width: 9.5rem; max-width: 28rem; }
summary { cursor: pointer; margin-bottom: .5rem; }
figure { margin: 0 0 1rem; padding: .75rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .4rem; }
figcaption { font-size: .8rem; color: var(--soft); overflow-wrap: anywhere; }
.pair { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }
pre { margin: .5rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext;
  font: .85rem/1.5 ui-monospace, monospace; }
pre:empty::before { content: "nothing"; color: var(--soft); font-style: italic; }
ins { background: var(--add); text-decoration: underline; }
del { background: var(--cut); }
"""

PIECES = re.compile(r"[A-Za-z0-9]+(?:[._@+-]+[A-Za-z0-9]+)*|.", re.DOTALL)
"""What two texts are compared by: words with their dots and signs, or single characters."""

LONG = 25
"""Lines from which on a table is folded up."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def report_page(config: CorpusConfig, ledgers: Ledgers, samples: list[Sample]) -> str:
    """The whole page."""
    body = [
        f"<h1>{shown(title(ledgers))}</h1>",
        f"<p>{shown(summary(ledgers))}</p>",
        bar(ledgers),
        *(section(table) for table in tables(config, ledgers)),
        *gallery(samples),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown(title(ledgers))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


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


def shown(text: str) -> str:
    """A text as HTML that shows just this text; what cannot be seen is spelled out."""
    return escape("".join(c if c.isprintable() or c in "\n\t" else visible(c) for c in text))


def visible(character: str) -> str:
    """The number of a character, but for white space, which is space."""
    return " " if character.isspace() and ord(character) > 0x9F else f"[U+{ord(character):04X}]"
