"""C4's rules: lines that go, sentences that are counted, documents that are dropped."""

from typing import Any

import pytest

from llm.c4 import broken_rule, keep_lines, sentences
from llm.corpus_config import C4Config

OFF: dict[str, Any] = {
    "line_ends": False,
    "least_line_words": None,
    "javascript": False,
    "least_sentences": None,
    "lorem_ipsum": False,
    "braces": False,
}


def only(**rules: Any) -> C4Config:
    """These rules alone."""
    return C4Config(**(OFF | rules))


def test_lines_without_an_end_go() -> None:
    text = 'One.\nTwo\nThree? \nFour!\n"Five"\nSix...\nSeven…\n\n八。\nNine:\n“Ten”'
    expected = 'One.\nThree? \nFour!\n"Five"\n八。\n“Ten”'
    assert keep_lines(text, only(line_ends=True)) == expected


def test_short_lines_go_counted_by_words_or_characters_of_scripts_without_spaces() -> None:
    text = "a b\na b c\nso-and-so\n静夜思\n静夜"
    assert keep_lines(text, only(least_line_words=3)) == "a b c\n静夜思"


def test_lines_about_javascript_go() -> None:
    assert keep_lines("Enable JavaScript.\nJava", only(javascript=True)) == "Java"


def test_all_lines_stay_when_no_rule_removes_any() -> None:
    assert keep_lines("  a\n\nb", only()) == "  a\n\nb"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One", 1),
        ("One. Two! Three?", 3),
        ('He said "No." Then "Yes!" And went.', 3),
        ("It costs 3.50 at 5 p.m. sharp.", 1),
        ("Mr. Hume met Dr. Smith and J. S. Mill.", 1),
        ("One.\nTwo three.\n\n", 2),
        ("Wait... What? (No.) Yes.", 4),
        ("一。二！三？", 3),
        ("“一。”二。", 2),
    ],
)
def test_sentences_are_counted(text: str, count: int) -> None:
    assert sentences(text) == count


def test_too_few_sentences_drop_a_document() -> None:
    config = only(least_sentences=3)
    assert broken_rule("One. Two. Three.", config) is None
    assert broken_rule("One. Two.", config) == "least_sentences"


def test_lorem_ipsum_drops_a_document() -> None:
    assert broken_rule("Lorem  ipsum", only(lorem_ipsum=True)) is None
    assert broken_rule("a LOREM ipsum b", only(lorem_ipsum=True)) == "lorem_ipsum"


@pytest.mark.parametrize("text", ["a {", "}"])
def test_braces_drop_a_document(text: str) -> None:
    assert broken_rule(text, only(braces=True)) == "braces"
    assert broken_rule(text, only()) is None


def test_a_document_without_lines_is_dropped_by_what_removed_them() -> None:
    assert broken_rule("", only(line_ends=True, javascript=True)) == "line_ends"
    assert broken_rule("", only(javascript=True)) == "javascript"
    assert broken_rule("", C4Config()) == "least_sentences"
