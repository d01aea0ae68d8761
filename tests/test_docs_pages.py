"""What pages say holds: links lead somewhere, messages are ours, generated pages are up to date."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from jobs import reference
from jobs.cli import app
from tests.markdown import DOCS, PAGES, ROOT, anchors, blocks, links, named, prose, spans

EVERY = [*PAGES, ROOT / "CONTRIBUTING.md"]

PACKAGES = ("llm", "cluster", "tune", "deploy", "jobs")

PATH = re.compile(r"(?:llm|cluster|tune|deploy|jobs|tests)/[\w./-]+\.\w+")


@pytest.mark.parametrize("page", EVERY, ids=named)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for line, target in links(page):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        to = (page.parent / file).resolve() if file else page
        assert to.exists(), f"{named(page)}:{line}: there is no {target}"
        if anchor:
            assert anchor in anchors(to), f"{named(page)}:{line}: {target} has no such heading"


@pytest.mark.parametrize("page", EVERY, ids=named)
def test_files_that_are_named_exist(page: Path) -> None:
    for line, span in spans(page):
        if PATH.fullmatch(span.partition("::")[0]):
            path = ROOT / span.partition("::")[0]
            assert path.exists() or list(ROOT.glob(span)), f"{named(page)}:{line}: no {span}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_all_that_is_set_apart_is_a_fenced_block(page: Path) -> None:
    before = ""
    for line, text in prose(page):
        apart = text.startswith("    ") and not before.strip()
        assert not apart, f"{named(page)}:{line}: indent by fewer, or fence it"
        before = text


def test_every_page_is_reached_from_the_readme() -> None:
    waiting, seen = [ROOT / "README.md"], set()
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        waiting += [(page.parent / to.partition("#")[0]).resolve() for _, to in links(page)]
    assert set(PAGES) <= seen


def test_the_reference_is_that_of_the_records() -> None:
    remedy = "run: python -m jobs schema --format markdown > jobs/docs/reference.md"
    assert (DOCS / "reference.md").read_text() == reference.text(), remedy


def test_the_reference_has_every_key_and_links_only_to_its_own_headings() -> None:
    page = DOCS / "reference.md"
    assert "| `lr_width` | a whole number of at least 0 | `0` |" in page.read_text()
    assert "| `kind` | one of adamw, muon, lion, adafactor | `adamw` |" in page.read_text()
    inside = [target[1:] for _, target in links(page) if target.startswith("#")]
    assert len(inside) > 50 and set(inside) <= anchors(page)


# -- messages --------------------------------------------------------------------------------------


@cache
def sayings() -> str:
    """Every text in the sources; what is filled in later is `...`."""
    found = []
    for package in PACKAGES:
        for path in (ROOT / package).glob("*.py"):
            found += [text_of(node) for node in ast.walk(ast.parse(path.read_text()))]
    return "\n".join(found)


def text_of(node: ast.AST) -> str:
    """A string, or an f-string with `...` in its gaps; nothing of other nodes."""
    match node:
        case ast.Constant(value=str(text)):
            return " ".join(text.replace("{}", "...").split())
        case ast.JoinedStr(values=values):
            pieces = (str(one.value) if isinstance(one, ast.Constant) else "..." for one in values)
            return "".join(pieces)
    return ""


def messages() -> Iterator[tuple[str, str]]:
    """What the page of troubles quotes, with its line."""
    for line, text in prose(DOCS / "troubleshooting.md"):
        if found := re.fullmatch(r"### `(.+)`", text):
            yield str(line), found[1]


@pytest.mark.parametrize(("line", "message"), list(messages()))
def test_a_quoted_message_is_one_of_ours(line: str, message: str) -> None:
    fixed = [part.strip(" ;,()") for part in message.split("...")]
    fixed = [part for part in fixed if len(part) > 2]
    assert max(map(len, fixed)) > 10, f"line {line}: nothing in it can be searched for"
    for part in fixed:
        assert part in sayings(), f"troubleshooting.md:{line}: nobody says {part!r}"


# -- what there is ---------------------------------------------------------------------------------


def test_every_command_is_in_the_readmes_table() -> None:
    table = "\n".join(text for _, text in prose(ROOT / "README.md") if text.startswith("| `"))
    told = {word for span in re.findall(r"`([^`]+)`", table) for word in span.split()[:1]}
    assert set(typer.main.get_command(app).commands) - told <= {"version"}


def test_every_spec_is_in_the_readmes_table() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [
        path.name for path in (ROOT / "jobs").glob("*.yaml") if f"(jobs/{path.name})" not in text
    ]
    assert not missing


# -- figures ---------------------------------------------------------------------------------------


def test_every_figure_of_the_benchmarks_names_its_command() -> None:
    rows = [text for _, text in prose(DOCS / "benchmarks.md") if text.startswith("| ")]
    assert len(rows) > 30
    for row in rows[1:]:
        last = row.rstrip(" |").rsplit("|", 1)[-1]
        assert "`" in last or last.strip() == "the same", row


def test_pictures_have_a_size_and_words_for_who_cannot_see_them() -> None:
    for page in PAGES:
        for target in (to for _, to in links(page) if to.endswith(".svg")):
            picture = (page.parent / target).read_text()
            assert "viewBox=" in picture and "<title" in picture and "<desc" in picture
            assert "prefers-color-scheme: dark" in picture


def test_every_block_says_what_it_is() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.language, f"{block.place}: a block without a language"
