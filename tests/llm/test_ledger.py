"""The books: every document and byte has one place, and portions add up to a corpus."""

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.damage import Damage, Reason
from llm.ledger import Amount, Ledger, total


def ledger_of(documents: list[tuple[str, int, int]]) -> Ledger:
    """Books of (fate, bytes read, bytes after cleaning)."""
    ledger = Ledger()
    for fate, before, after in documents:
        ledger.read.add(before)
        ledger.removed += before - after
        if fate in ("train", "validation"):
            getattr(ledger, fate).add(after)
        else:
            ledger.drop(fate, after)
    return ledger


DOCUMENTS = st.lists(
    st.tuples(
        st.sampled_from(["train", "validation", "language", "cap"]),
        st.integers(0, 999),
        st.integers(0, 999),
    )
)


def test_what_was_read_is_kept_dropped_or_cleaned_away() -> None:
    ledger = ledger_of([("train", 100, 90), ("language", 50, 55), ("validation", 7, 7)])
    ledger.check()
    assert ledger.read == Amount(3, 157)
    assert ledger.kept == Amount(2, 97)
    assert ledger.dropped == {"language": Amount(1, 55)}
    assert ledger.removed == 5  # 10 taken away, 5 added


@pytest.mark.parametrize("lost", [(1, 0), (0, 1)])
def test_books_that_do_not_balance_are_a_bug(lost: tuple[int, int]) -> None:
    ledger = ledger_of([("train", 100, 90)])
    documents, bytes = lost
    ledger.read.add(bytes, documents)
    with pytest.raises(AssertionError):
        ledger.check()


@given(st.lists(DOCUMENTS, min_size=1))
def test_portions_add_up_to_the_corpus(portions: list[list[tuple[str, int, int]]]) -> None:
    whole = total(map(ledger_of, portions))
    whole.check()
    assert whole == ledger_of([document for portion in portions for document in portion])


@given(DOCUMENTS)
def test_books_travel_as_json(documents: list[tuple[str, int, int]]) -> None:
    ledger = ledger_of(documents)
    ledger.clean({"emails": 2})
    ledger.damage(Damage("invalid json", "/x/a.jsonl", "17", "is not JSON", 9), "web/a.jsonl")
    assert Ledger.from_json(json.loads(json.dumps(ledger.to_json()))) == ledger


@pytest.mark.parametrize("reason", get_args(Reason))
def test_a_damage_is_read_and_dropped(reason: str) -> None:
    ledger = Ledger()
    ledger.damage(Damage(reason, "/x/a", "3", "is broken", 12), "web/a")  # type: ignore[arg-type]
    ledger.check()
    assert ledger.read == Amount(1, 12)
    assert ledger.dropped == {reason: Amount(1, 12)}


def test_damages_of_one_kind_in_one_file_are_one_line_that_tells_of_the_first() -> None:
    ledger = Ledger()
    for place in ("10", "20", "30"):
        ledger.damage(Damage("invalid json", "/x/a", place, f"broken at {place}", 5), "web/a")
    ledger.damage(Damage("damaged file", "/x/a", "", "is cut short", 0), "web/a")
    lines = ledger.to_json()["bad"]
    assert [(one["reason"], one["count"], one["place"]) for one in lines] == [
        ("invalid json", 3, "10"),
        ("damaged file", 1, ""),
    ]
    assert ledger.to_json()["bad_files"] == 1


def test_blank_records_are_counted_but_only_empty_files_are_listed() -> None:
    ledger = Ledger()
    ledger.damage(Damage("empty", "/x/a", "3", "is null", 0), "web/a")
    ledger.damage(Damage("not a page", "/x/b", "3", "is an image", 0), "web/b")
    ledger.damage(Damage("empty", "/x/c", "", "is empty", 0), "web/c")
    assert ledger.read.documents == 3
    assert [one["file"] for one in ledger.to_json()["bad"]] == ["web/c"]


def test_a_list_of_damages_is_cut_but_all_are_counted() -> None:
    ledger = Ledger()
    for number in range(7):
        ledger.damage(Damage("empty", "", "", "is empty", 0), f"web/{number}")
    told = ledger.to_json(shown=3)
    assert len(told["bad"]) == 3
    assert told["bad_files"] == told["dropped"]["empty"]["documents"] == 7


def test_the_most_frequent_reason_comes_first() -> None:
    ledger = ledger_of([("b", 1, 1), ("c", 1, 1), ("c", 1, 1), ("a", 1, 1)])
    assert [reason for reason, _ in ledger.reasons()] == ["c", "a", "b"]
