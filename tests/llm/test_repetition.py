"""Shares of repeated text against numbers counted by hand, and against a slow way of counting."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.corpus_config import RepetitionConfig
from llm.repetition import broken_rule, shares
from llm.view import View

OFF = {name: None for name in RepetitionConfig.__dataclass_fields__}


def measured(text: str) -> dict[str, float]:
    """All shares by the names of their rules, as characters of the text."""
    return dict(shares(View(text), RepetitionConfig()))


def characters(text: str, name: str) -> int:
    """A share as the number of characters that it stands for."""
    return round(measured(text)[name] * len(text))


def test_lines_that_stood_before_are_counted() -> None:
    text = "aa\nbbb\n\naa\n aa \ncccc"  # of five lines two again, with four characters; 20 in all
    assert measured(text)["lines"] == 2 / 5
    assert measured(text)["line_characters"] == 4 / len(text) == 4 / 20


def test_paragraphs_that_stood_before_are_counted() -> None:
    text = "a\nb\n\nc\n \na\nb\n\n\nd"
    assert measured(text)["paragraphs"] == 1 / 4
    assert measured(text)["paragraph_characters"] == 3 / len(text)


def test_the_most_frequent_run_counts_as_often_as_it_stands() -> None:
    text = "a bb a bb c a bb"
    assert characters(text, "top_2_gram") == 3 * len("a bb")
    assert characters(text, "top_3_gram") == 0  # all five are different
    text = "a b c a b c d a b c"
    assert characters(text, "top_3_gram") == 3 * len("a b c")


def test_of_equally_frequent_runs_the_first_counts() -> None:
    assert characters("x y zzz www x y q zzz www", "top_2_gram") == 2 * len("x y")
    assert characters("zzz www x y q zzz www x y", "top_2_gram") == 2 * len("zzz www")


def test_a_run_that_stands_once_repeats_nothing() -> None:
    assert set(measured("humpty dumpty sat on a wall").values()) == {0.0}


def test_characters_of_overlapping_runs_count_once() -> None:
    text = "a b c d e f x a b c d e f"  # two runs of five stood before, over six words
    assert characters(text, "repeated_5_grams") == 6
    assert characters(text, "repeated_6_grams") == 6
    assert characters(text, "repeated_7_grams") == 0


def test_a_run_may_overlap_the_one_it_repeats() -> None:
    assert characters("ha " * 8, "repeated_5_grams") == 2 * 7  # all but the first


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc", ",", "静"]), max_size=40))
def test_shares_of_runs_are_those_of_a_slow_count(words: list[str]) -> None:
    text = " ".join(words)
    words = text.split()
    for n in range(2, 11):
        runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if n <= 4:
            counts = Counter(runs).most_common(1)
            best, count = counts[0] if counts else ((), 0)
            expected = len(" ".join(best)) * count if count > 1 else 0
            assert characters(text or " ", f"top_{n}_gram") == expected
        else:
            again = [i for i, run in enumerate(runs) if run in runs[:i]]
            covered = {i + k for i in again for k in range(n)}
            expected = sum(len(words[i]) for i in covered)
            assert characters(text or " ", f"repeated_{n}_grams") == expected


@pytest.mark.parametrize(
    ("rule", "bound", "kept", "dropped"),
    [
        ("lines", 1 / 3, "a\nb\na", "a\na\nb\nb"),
        ("line_characters", 0.25, "a\nab\na..", "aaaa\naaaa"),
        ("paragraphs", 1 / 3, "a\n\nb\n\na", "a\n\na"),
        ("paragraph_characters", 0.2, "a\n\nbbbbb\n\na", "aaaa\n\naaaa"),
        ("top_2_gram", 6 / 8, "a b, a b", "a b a b"),
        ("top_3_gram", 0.5, "one two three four", "one two three one two three"),
        ("top_4_gram", 0.5, "one two three four", "one two three four one two three four"),
        ("repeated_5_grams", 5 / 19, "a b c d e a b c d e", "a b c d e a b c d e a b c d e"),
        ("repeated_10_grams", 0.1, "a b c d e f g h i a b c d e f g h i", "0 1 " * 10),
    ],
)
def test_a_text_at_the_bound_is_kept_and_one_beyond_is_not(
    rule: str, bound: float, kept: str, dropped: str
) -> None:
    config = RepetitionConfig(**{**OFF, rule: bound})  # type: ignore[arg-type]
    assert broken_rule(View(kept), config) is None
    assert broken_rule(View(dropped), config) == rule


def test_rules_that_are_null_are_off() -> None:
    assert broken_rule(View("a a a a a a"), RepetitionConfig(**OFF)) is None  # type: ignore[arg-type]


def test_an_empty_text_repeats_nothing() -> None:
    assert broken_rule(View(""), RepetitionConfig()) is None
