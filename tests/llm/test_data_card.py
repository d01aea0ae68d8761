"""Data card and report page: they add up, and hostile text stays text."""

from html.parser import HTMLParser

import yaml
from hypothesis import given
from hypothesis import strategies as st

from llm.corpus_config import CorpusConfig, FilterConfig, LanguageConfig, SourceConfig
from llm.corpus_report import compared, report_page
from llm.damage import Damage
from llm.data_card import data_card, escaped
from llm.ledger import Ledger
from llm.page import POLICY, shown
from llm.samples import Sample

HOSTILE = "<script>alert(1)</script>|`x` **b** [a](javascript:x) \u202e\x00 \"'&amp;"


def books() -> tuple[CorpusConfig, dict[str, Ledger]]:
    """Two sources; in one of them a file with a hostile name."""
    sources = {name: SourceConfig(shards=(f"/{name}",), weight=2.0) for name in ("wiki", "web")}
    language = FilterConfig(language=LanguageConfig(keep=("en", "de")))
    wiki, web = Ledger(), Ledger()
    wiki.read.add(3_000, 3)
    wiki.train.add(2_500, 2)
    wiki.drop("language", 400)
    wiki.removed = 100
    web.read.add(1_000, 2)
    web.validation.add(600, 1)
    web.drop("cap", 400)
    web.damage(Damage("damaged file", "/x", "7", HOSTILE, 10), f"web/{HOSTILE}")
    wiki.check()
    web.check()
    return CorpusConfig(sources=sources, filter=language), {"wiki": wiki, "web": web}


class Tags(HTMLParser):
    """Tags of a page, and the text that it shows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.names.append(tag)
        assert all(not name.startswith("on") for name, _ in attrs)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def test_the_head_of_the_card_says_where_the_splits_are() -> None:
    card = data_card(*books())
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["configs"][0]["data_files"] == [
        {"split": "train", "path": "train/*.parquet"},
        {"split": "validation", "path": "validation/*.parquet"},
    ]
    assert head["language"] == ["en", "de"]
    assert head["size_categories"] == ["n<1K"]


def test_the_card_shows_the_books() -> None:
    card = data_card(*books())
    assert "3 documents with 3.1 kB of text, made of 6 documents with 4.01 kB" in card
    assert "| wiki | 3 | 3 kB | 2 | 2.5 kB | 0 | 0 B | 83.3% | 2 |" in card
    assert "| \\- cap | 1 | 16.7% | 400 B | 0 | 1 |" in card.replace("- cap", "\\- cap")
    assert "removed by cleaning |  |  | 100 B |" in card


def test_the_card_ends_with_the_recipe() -> None:
    config, ledgers = books()
    recipe = yaml.safe_load(data_card(config, ledgers).split("```yaml\n")[1].split("```")[0])
    assert recipe["sources"]["web"] == {
        "shards": ["/web"], "format": "auto", "text": "text", "documents": "file",
        "encoding": "utf-8", "weight": 2.0,
    }  # fmt: skip
    assert recipe["filter"] == {"language": {"keep": ["en", "de"], "threshold": 0.65}}


def test_a_hostile_file_name_breaks_no_table_of_the_card() -> None:
    lines = [line for line in data_card(*books()).splitlines() if "script" in line]
    assert len(lines) == 1
    assert "<" not in lines[0]
    cells = lines[0].replace("\\|", "").split("|")
    assert len(cells) == 7


@given(st.text())
def test_escaped_markdown_is_one_line_without_active_characters(text: str) -> None:
    line = escaped(text)
    assert "\n" not in line and "<" not in line and ">" not in line
    bare = line.replace("\\\\", "")
    assert all(bare[i - 1] == "\\" for i, c in enumerate(bare) if c in "`*_[]|~#$!")


def samples() -> list[Sample]:
    return [
        Sample("1", "changed", "emails", HOSTILE, f"a@b.c {HOSTILE}", f"<email> {HOSTILE}"),
        Sample("2", "dropped", "near duplicate", "web/1", HOSTILE, "x", HOSTILE),
        Sample("3", "dropped", "language", "web/2", HOSTILE),
        Sample("4", "kept", "web", "web/3", HOSTILE),
    ]


def test_hostile_text_stays_text_on_the_page() -> None:
    page = report_page(*books(), samples())
    tags = Tags(page)
    assert not tags.open
    assert "script" not in tags.names and "a" not in tags.names and "b" in tags.names
    assert tags.text.count("<script>alert(1)</script>") == 9
    assert not any(c in page for c in "\u202e\x00")
    assert "[U+202E]" in page


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = report_page(*books(), samples())
    assert POLICY in page and "default-src 'none'" in POLICY
    assert not {"script", "link", "img", "iframe", "object"} & set(Tags(page).names)
    assert "http" not in page.replace("http-equiv", "")


def test_the_page_is_made_for_phones_and_for_the_dark() -> None:
    page = report_page(*books(), [])
    assert 'name="viewport" content="width=device-width' in page
    assert "prefers-color-scheme: dark" in page


def test_differences_are_marked_word_by_word() -> None:
    old, new = compared("write me@x.org now", "write <email> now")
    assert old == "write <del>me@x.org</del> now"
    assert new == "write <ins>&lt;email&gt;</ins> now"


def test_removed_line_ends_can_be_seen() -> None:
    assert compared("a\n\nb", "a\nb")[0].count("↵") == 1


@given(st.text(), st.text())
def test_marked_differences_still_show_both_texts(before: str, after: str) -> None:
    old, new = compared(before, after)
    for marked, text in ((old, before), (new, after)):
        plain = marked.replace("↵", "") if "↵" not in text else marked
        for tag in ("<ins>", "</ins>", "<del>", "</del>"):
            plain = plain.replace(tag, "")
        assert "↵" in text or plain == shown(text)
