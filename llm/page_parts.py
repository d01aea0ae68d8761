"""Parts that a page of a whole run is made of: tables, tiles, notices, and parts that may break.

A report reads what a run has left behind, which may be half written, damaged or somebody else's. A
part that cannot be made says so in its place, and the rest of the page stands.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from llm.page import shown

STYLE = """
.state { display: inline-block; padding: 0 .55rem; border: 1px solid var(--line);
  border-radius: 1rem; font-size: .8rem; font-weight: 400; color: var(--soft);
  vertical-align: middle; }
.story { color: var(--text); font-size: 1.05rem; margin: 1rem 0 0; }
nav ul { display: flex; flex-wrap: wrap; gap: .4rem; margin: 1.25rem 0 0; padding: 0;
  list-style: none; }
nav a { display: block; padding: .3rem .75rem; border: 1px solid var(--line); border-radius: 1rem;
  background: var(--card); color: var(--text); text-decoration: none; font-size: .9rem;
  overflow-wrap: anywhere; }
a { color: var(--held); overflow-wrap: anywhere; }
section { border-top: 1px solid var(--line); margin-top: 2.5rem; }
section > h2 { margin-top: 1.25rem; overflow-wrap: anywhere; }
h4 { font-size: .9rem; margin: 1.25rem 0 .25rem; }
.bar { display: flex; height: 1.25rem; margin: 1rem 0 .5rem; border-radius: .3rem;
  overflow: hidden; background: var(--card); }
.bar i { min-width: 1px; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; border: 1px solid var(--line);
  border-radius: .4rem; }
.scroll table { border-collapse: collapse; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
.scroll :is(th, td) { padding: .4rem .6rem; text-align: right; white-space: nowrap;
  vertical-align: top; border-top: 1px solid var(--line); }
.scroll tr:first-child > * { border-top: 0; background: var(--card); font-weight: 600; }
.scroll .word { text-align: left; }
.scroll td.word { white-space: normal; overflow-wrap: anywhere; min-width: 8rem;
  max-width: 26rem; }
details > pre { padding: .75rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .4rem; }
"""


def part(what: str, make: Callable[[], Iterable[str]]) -> str:
    """A part of a page, or why it cannot be shown: nothing in a folder breaks the page."""
    try:
        return "\n".join(make())
    except Exception as error:  # whatever a damaged or foreign file leads to
        return notice(f"{what} cannot be shown", f"{type(error).__name__}: {error}")


def notice(head: str, text: str) -> str:
    """Something out of the ordinary."""
    return f'<p class="notice"><b>{shown(head)}</b>: {shown(text)}</p>'


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1, name: str = "table"
) -> str:
    """A table that scrolls by itself where the page is narrow; the first `words` columns are words,
    the others numbers."""
    lines = "\n".join(f"<tr>{cells('td', map(shown, row), words)}</tr>" for row in rows)
    return framed_table(columns, lines, words, name)


def framed_table(columns: Sequence[str], lines: str, words: int, name: str) -> str:
    """The same of rows that are already safe."""
    head = "".join(
        f"<th{kind(at, words)}>{shown(text)}</th>" if text else "<td></td>"
        for at, text in enumerate(columns)
    )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{shown(name)}"><table>\n'
        f"<tr>{head}</tr>\n{lines}\n</table></div>"
    )


def cells(tag: str, texts: Iterable[str], words: int) -> str:
    """A row's cells, of texts that are already safe."""
    return "".join(f"<{tag}{kind(at, words)}>{text}</{tag}>" for at, text in enumerate(texts))


def kind(column: int, words: int) -> str:
    """How a cell is set."""
    return ' class="word"' if column < words else ""


def tiles(items: Mapping[str, tuple[str, str]]) -> str:
    """Figures with a name above and a remark below."""
    texts = "".join(
        f"<li><span>{shown(name)}</span><b>{shown(value)}</b><small>{shown(note)}</small></li>"
        for name, (value, note) in items.items()
    )
    return f'<ul class="tiles">{texts}</ul>' if items else ""
