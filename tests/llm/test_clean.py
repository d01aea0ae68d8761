"""Cleaning: what each step changes, what it leaves, and that a clean text stays as it is."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.clean import CONTROL, LINE_ENDS, Cleaned, Cleaner, has_control, share_of_urls
from llm.corpus_config import CleanConfig

OFF: dict[str, Any] = {"unicode": "none", "control": False, "whitespace": False}

ALL = CleanConfig(
    unicode="nfkc", boilerplate=True, url_lines=0.5, emails=True, phones=True, ips=True
)

MESSY = st.text(
    st.sampled_from(list("ab1.-@:/é\u0301 \t\n\r\f\0\x85\u200b\u200d\u2028\ufeff\u3000|®ﬁ静"))
    | st.characters(exclude_categories=["Cs"])
)


def only(text: str, **step: Any) -> Cleaned:
    """A text after one step."""
    return Cleaner(CleanConfig(**(OFF | step)))(text)


def test_nothing_is_done_that_is_not_asked_for() -> None:
    text = "\ufeffa\r\n\n\n\n b@c.de \x00 e\u0301 "
    assert only(text) == (text, {})


def test_line_ends_become_newlines_and_are_not_counted() -> None:
    assert only("a\r\nb\rc\fd\u2028e\x85f", control=True) == ("a\nb\nc\nd\ne\nf", {})


def test_control_and_invisible_characters_go_and_are_counted() -> None:
    text = "\ufeffHump\xadty\0 \x1b[1mDump\u200bty\u202e\tsat\n"
    assert only(text, control=True) == ("Humpty [1mDumpty\tsat\n", {"control characters": 6})


def test_joiners_of_persian_and_of_emoji_stay() -> None:
    text = "می\u200cخواهم 👩\u200d🚒"
    assert only(text, control=True) == (text, {})


@settings(deadline=None)
@given(MESSY)
def test_the_fast_look_for_control_characters_finds_what_the_patterns_find(text: str) -> None:
    assert has_control(text) == bool(CONTROL.search(text) or LINE_ENDS.search(text))


def test_unicode_form_is_as_asked() -> None:
    text = "cafe\u0301 ﬁ"
    assert only(text, unicode="nfc") == ("café ﬁ", {"unicode": 1})
    assert only(text, unicode="nfkc") == ("café fi", {"unicode": 1})
    assert only("café", unicode="nfc") == ("café", {})


def test_ends_of_lines_and_superfluous_blank_lines_go() -> None:
    text = "\n \n  a  b \t\n\n \u3000\n\n  c\u00a0\n\n"
    assert only(text, whitespace=True) == ("a  b\n\n  c", {"white space": 14})


def test_lines_of_furniture_go() -> None:
    text = "Home | News | About us\nThe egg fell.\nAccept all cookies\n© 2024 Wall Ltd."
    assert only(text, boilerplate=True) == ("The egg fell.", {"boilerplate lines": 3})


def test_lines_go_of_which_more_than_the_share_is_urls() -> None:
    line = "see http://a.bc/"  # 12 of 15 characters
    assert share_of_urls(line) == 12 / 15
    text = f"a\n{line}\nb"
    assert only(text, url_lines=12 / 15) == (text, {})
    assert only(text, url_lines=0.79) == ("a\nb", {"url lines": 1})
    assert only("WWW.A.BC\nhttps:", url_lines=0.0) == ("https:", {"url lines": 1})


def test_personal_data_is_replaced_and_counted() -> None:
    text = "me@wall.org or +44 20 7946 0958, at 8.8.8.8 or 8.8.4.4"
    cleaned = only(text, emails=True, phones=True, ips=True)
    assert cleaned.text == "<email> or <phone>, at <ip> or <ip>"
    assert cleaned.changes == {"emails": 1, "phones": 1, "ips": 2}


def test_white_space_that_other_steps_leave_goes_too() -> None:
    text = "a\n\nShare on Facebook\n\nb \u200b"
    assert Cleaner(CleanConfig(boilerplate=True))(text).text == "a\n\nb"


@settings(deadline=None)
@given(MESSY)
def test_a_clean_text_is_left_as_it_is(text: str) -> None:
    for config in (CleanConfig(), ALL):
        cleaner = Cleaner(config)
        cleaned = cleaner(text).text
        assert cleaner(cleaned) == (cleaned, {})


@settings(deadline=None)
@given(MESSY)
def test_clean_text_has_neither_control_characters_nor_outer_space(text: str) -> None:
    cleaned = Cleaner(ALL)(text).text
    assert not has_control(cleaned)
    assert cleaned == cleaned.strip()
    assert "\n\n\n" not in cleaned
    assert all(line == line.rstrip() for line in cleaned.split("\n"))


def test_a_cleaner_travels_to_workers() -> None:
    text = "a@b.cd\r\n"
    assert pickle.loads(pickle.dumps(Cleaner(ALL)))(text) == Cleaner(ALL)(text)


@pytest.mark.parametrize("name", ["a_pretrain/en/c4_demo.jsonl", "g_hostile/blns.json"])
def test_real_text_is_clean_after_cleaning(shared_data: Path, name: str) -> None:
    cleaner = Cleaner(ALL)
    for line in (shared_data / name).read_text().splitlines():
        cleaned = cleaner(line).text
        assert cleaner(cleaned) == (cleaned, {})
