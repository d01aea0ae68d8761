"""Markdown as far as our pages use it: fenced blocks, commands in them, headings, links.

blocks(page)      every fenced block, with its first line and language
commands(block)   of sh every command, of console those behind `$ `, each with what it prints
spans(page)       inline code, with its line
anchors(page)     what GitHub makes of the headings
links(page)       targets of links and pictures, with their lines
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "jobs" / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

FENCE = re.compile(r"^```(\S*)$")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    """Of its first line."""
    language: str
    text: str

    @property
    def place(self) -> str:
        """FILE:LINE"""
        return f"{named(self.page)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A line for a shell, and what the page says that it prints."""

    place: str
    text: str
    output: tuple[str, ...] = ()


def named(page: Path) -> str:
    """A page as its path in the project."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page."""
    language, begin, inside = "", 0, None
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fence = FENCE.match(line)
        if inside is None and fence:
            language, begin, inside = fence[1], number + 1, []
        elif inside is not None and line == "```":
            yield Block(page, begin, language, "\n".join(inside) + "\n")
            inside = None
        elif inside is not None:
            inside.append(line)
    assert inside is None, f"{named(page)}:{begin}: the block does not end"


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The lines outside of fenced blocks, with their numbers."""
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            yield number, line


def commands(block: Block) -> list[Command]:
    """The commands of a block; a backslash at a line's end joins it with the next."""
    found: list[Command] = []
    lines = iter(enumerate(block.text.splitlines(), start=block.line))
    for number, line in lines:
        if block.language == "console" and not line.startswith("$ "):
            assert found, f"{named(block.page)}:{number}: output without a command"
            last = found[-1]
            found[-1] = Command(last.place, last.text, (*last.output, line))
            continue
        text = line.removeprefix("$ ") if block.language == "console" else line
        while text.endswith("\\"):
            text = text[:-1] + next(lines)[1].strip()
        if text.strip() and not text.lstrip().startswith("#"):
            found.append(Command(f"{named(block.page)}:{number}", text))
    return found


def spans(page: Path) -> Iterator[tuple[int, str]]:
    """Inline code with its line; none that breaks over lines."""
    for number, line in prose(page):
        for found in SPAN.finditer(line):
            yield number, found[1]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of this page says behind its `#`."""
    seen: Counter[str] = Counter()
    made = set()
    for _, line in prose(page):
        if not re.match(r"#{1,6} ", line):
            continue
        words = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
        anchor = words.replace(" ", "-")
        made.add(anchor if not seen[anchor] else f"{anchor}-{seen[anchor]}")
        seen[anchor] += 1
    return made


def links(page: Path) -> Iterator[tuple[int, str]]:
    """Targets of links and pictures; a link's words may break over a line."""
    text = "\n".join("" if line.startswith("```") else line for line in masked(page))
    for found in LINK.finditer(text):
        yield text.count("\n", 0, found.start()) + 1, found[1]


def masked(page: Path) -> Iterator[str]:
    """The page's lines, those of fenced blocks empty."""
    outside = dict(prose(page))
    for number, _ in enumerate(page.read_text().splitlines(), start=1):
        yield outside.get(number, "")
