"""Unwanted words: what is found, and files that cannot be used."""

from pathlib import Path

import pytest

from llm.errors import DataError
from llm.word_list import WordList, read_word_list


def test_words_and_phrases_are_found_whatever_their_case_and_punctuation() -> None:
    words = WordList(["Humpty", "great  fall", "", "…"])
    assert words.count("HUMPTY! Had a great-fall; humpty") == 3
    assert words.count("Humptys greatfall, great big fall") == 0
    assert words.count("") == 0


def test_chinese_words_are_found_inside_sentences() -> None:
    assert WordList(["明月"]).count("床前明月光，低头思明月") == 2


def test_every_phrase_counts_once_however_often_it_is_listed() -> None:
    assert WordList(["wall", "Wall", "the wall"]).count("on the wall") == 2


def test_a_list_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffegg\r\ngreat fall\r\n".encode())
    assert read_word_list(str(path)).count("An egg had a great fall") == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe", "is not UTF-8"), (b"\n--\n", "has no word in it"), (None, "cannot be read")],
)
def test_files_that_cannot_be_used_are_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_word_list(str(path))
    assert str(path) in str(error.value)
    assert "filter.words.file" in str(error.value)
