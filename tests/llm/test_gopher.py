"""Every rule of Gopher's at both sides of its bound, with numbers counted by hand."""

import pytest

from llm.corpus_config import GopherConfig
from llm.gopher import broken_rule
from llm.view import View

OFF = {name: None for name in GopherConfig.__dataclass_fields__}


@pytest.mark.parametrize(
    ("rule", "bound", "kept", "dropped"),
    [
        ("least_words", 3, "one, two -- 3", "one, two -- !"),
        ("most_words", 3, "one, two -- 3 !", "one two 3 4"),
        ("least_word_length", 2.5, "abc de.", "ab cd e."),  # 5/2, 5/3
        ("most_word_length", 2.5, "abc de.", "abc d'e"),  # 5/2, 6/2
        ("symbols", 0.5, "# a b", "## a b c"),  # 1/2, 2/3
        ("symbols", 0.5, "a... b", "a... b… c"),  # 1/2, 2/3
        ("symbols", 0.5, "# a… b", "# a… # b c"),  # either of them: 1/2 and 1/2, 2/3 and 1/3
        ("bullet_lines", 0.5, "• a\n\nb\n - c\nd", "- a\n* b\n\nc"),  # 2/4, 2/3
        ("ellipsis_lines", 0.5, "a...\n\nb", "a… \nb...\nc"),  # 1/2, 2/3
        ("alphabetic_words", 0.75, "a, b c2 3", "a b, 2 -"),  # 3/4, 2/4
        ("stop_words", 2, "The egg THAT fell", "The egg, the wall: they otherwise"),
    ],
)
def test_a_text_at_the_bound_is_kept_and_one_beyond_is_not(
    rule: str, bound: float, kept: str, dropped: str
) -> None:
    config = GopherConfig(**{**OFF, rule: bound})  # type: ignore[arg-type]
    assert broken_rule(View(kept), config) is None
    assert broken_rule(View(dropped), config) == rule


def test_the_first_broken_rule_counts() -> None:
    assert broken_rule(View("# # #"), GopherConfig()) == "least_words"


def test_rules_that_are_null_are_off() -> None:
    assert broken_rule(View("# # #"), GopherConfig(**OFF)) is None  # type: ignore[arg-type]


def test_an_empty_text_breaks_no_rule_about_shares_by_accident() -> None:
    config = GopherConfig(least_words=None, least_word_length=None, stop_words=None)
    assert broken_rule(View(""), config) == "alphabetic_words"
    assert broken_rule(View("###"), config) == "symbols"


def test_prose_is_kept() -> None:
    text = "Humpty Dumpty sat on the wall, and all that the king's horses have to do is put it up. "
    assert broken_rule(View(text * 3), GopherConfig()) is None
