"""Questions about Python's library, with answers good and bad."""

import json
import re
from pathlib import Path

import pytest

from llm import pydoc_pairs, pydoc_source
from llm.errors import DataError
from llm.pydoc_pairs import (
    MOST_RAMBLING,
    MOST_WORDS,
    Entry,
    bad_answers,
    broken_off,
    is_answer,
    jumbled,
    public_name,
    pydoc_entries,
    pydoc_pairs_digest,
    rambling,
    sentences,
    stammering,
    write_pydoc_chats,
    write_pydoc_pairs,
    wrong,
)


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return pydoc_entries()


def test_thousands_of_names_are_asked_about_each_once(entries: list[Entry]) -> None:
    assert 3_000 < len(entries) < 8_000
    assert len({entry.question for entry in entries}) == len(entries)
    assert {entry.kind for entry in entries} == {"module", "class", "function"}


def test_path_functions_go_by_the_name_that_people_use(entries: list[Entry]) -> None:
    join = next(entry for entry in entries if entry.name == "os.path.join")
    assert "os.path.join" in join.question
    assert join.answer == "Join two or more pathname components, inserting '/' as needed."


def test_every_answer_is_one_short_plain_sentence(entries: list[Entry]) -> None:
    for entry in entries:
        assert is_answer(entry.answer), entry
        assert re.fullmatch(r"[A-Z][^\n|\\{}<>@~^`_=*+]*[.!?]", entry.answer), entry
        assert "  " not in entry.answer and ">>>" not in entry.answer, entry


def test_an_answer_is_not_shared_by_many_names(entries: list[Entry]) -> None:
    answers = [entry.answer for entry in entries]
    assert len(set(answers)) > 0.95 * len(answers)


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Close the file.\n\nMore here.", ("Close the file.", "More here.")),
        ("return the thing", ("Return the thing.",)),
        ("Wrap a long line\nof text and go on.", ("Wrap a long line of text and go on.",)),
        ("The title of it\nThis is the text.", ("The title of it.", "This is the text.")),
        ("The size given by\nINDEX.", ("The size given by INDEX.",)),
        ("Use ``x`` or `y' of :class:`Z` and *w*.", ("Use x or y of Z and w.",)),
        ("Days, e.g. Monday. No more.", ("Days, e.g. Monday.", "No more.")),
        ("Do it.\n\n>>> f()\n1\n\nNot read.", ("Do it.",)),
        ("f(x) -> int\n\nDo it.", ()),
        ("Internal: hands off.", ()),
    ],
)
def test_sentences_are_what_comes_before_the_first_code(
    docstring: str, expected: tuple[str, ...]
) -> None:
    assert sentences(docstring) == expected


@pytest.mark.parametrize(
    ("id", "name"),
    [
        ("posixpath.join", "os.path.join"),
        ("genericpath.getsize", "os.path.getsize"),
        ("ntpath.join", None),
        ("json.decoder._decode", None),
        ("json.JSONEncoder.__init__", None),
        ("_pydecimal.Decimal.sqrt", "decimal.Decimal.sqrt"),
        ("help.assert", None),
    ],
)
def test_private_names_are_not_asked_about(id: str, name: str | None) -> None:
    assert public_name(id) == name


ENTRY = Entry("a.b", "function", ("Do one thing well.", "Then another."))
OTHERS = ("Sing a song.", "Dance.")


def test_wrong_answer_is_about_another_name() -> None:
    assert wrong(ENTRY, iter(OTHERS)) == "Sing a song."


def test_rambling_answer_begins_right_and_goes_on_too_long() -> None:
    text = rambling(ENTRY, iter(["And so on and so forth."] * 20))
    assert text.startswith("Do one thing well. Then another. And so on")
    assert MOST_WORDS <= len(text.split()) <= MOST_RAMBLING


def test_broken_off_answer_is_a_beginning_without_its_end() -> None:
    text = broken_off(ENTRY, iter(OTHERS))
    assert text in {"Do", "Do one", "Do one thing"}


def test_jumbled_answer_has_the_same_words_in_another_order() -> None:
    text = jumbled(ENTRY, iter(OTHERS))
    assert sorted(text.rstrip(".").split()) == ["Do", "one", "thing", "well"]
    assert text not in (ENTRY.answer, "Do one thing well")


def test_stammering_answer_says_a_part_four_times() -> None:
    text = stammering(ENTRY, iter(OTHERS))
    words = text.rstrip(".").split()
    assert any(words.count(word) == 4 for word in words)
    assert list(dict.fromkeys(words)) == ["Do", "one", "thing", "well"]


def test_bad_answers_differ_and_length_alone_does_not_tell(entries: list[Entry]) -> None:
    pairs = [(entry.answer, bad) for entry, bad in zip(entries, bad_answers(entries), strict=True)]
    assert all(good != bad for good, bad in pairs)
    sizes = [(len(good.split()), len(bad.split())) for good, bad in pairs]
    uneven = [good > bad for good, bad in sizes if good != bad]
    assert 0.4 < sum(uneven) / len(uneven) < 0.6


def test_files_are_the_same_each_time_and_have_the_schemas_keys(
    tmp_path: Path, entries: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pydoc_pairs, "pydoc_entries", lambda: entries)
    (chats,), (pairs,) = write_pydoc_chats(tmp_path / "a"), write_pydoc_pairs(tmp_path / "a")
    assert write_pydoc_chats(tmp_path / "b")[0].read_bytes() == chats.read_bytes()
    assert write_pydoc_pairs(tmp_path / "b")[0].read_bytes() == pairs.read_bytes()
    questions = [json.loads(line) for line in chats.read_text().splitlines()]
    compared = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert len(questions) == len(compared) == len(entries)
    assert set(questions[0]) == {"question", "answer"}
    assert set(compared[0]) == {"prompt", "chosen", "rejected"}
    assert [row["question"] for row in questions] == [row["prompt"] for row in compared]


def test_python_without_sources_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydoc_pairs, "all_texts", lambda: iter(()))
    with pytest.raises(DataError, match="without the sources of its standard library"):
        pydoc_entries()


def test_digest_changes_with_the_documents_and_with_what_is_made_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digests = {pydoc_pairs_digest()}
    monkeypatch.setattr(pydoc_pairs, "REVISION", 99)
    digests.add(pydoc_pairs_digest())
    monkeypatch.setattr(pydoc_source, "REVISION", 99)
    digests.add(pydoc_pairs_digest())
    assert len(digests) == 3
