"""Tokens of a text, as rules count them."""

from llm.view import View


def tokens_of(text: str) -> list[str]:
    """The tokens themselves."""
    starts, ends, _ = View(text).tokens
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def test_tokens_are_words_and_signs_and_repeated_signs() -> None:
    text = "Don't stop -- he’s well-known... (really!!?) --"
    expected = "Don't stop -- he’s well - known ... ( really !! ? ) --"
    assert tokens_of(text) == expected.split()
    assert " ".join(tokens_of("'tis '90s dogs' 静夜，思")) == "' tis ' 90s dogs ' 静 夜 ， 思"
    assert tokens_of("'") == ["'"]
    assert tokens_of("") == []


def test_words_are_tokens_with_a_letter_or_digit() -> None:
    view = View("a -- 22 b's, #")
    assert view.tokens.words.tolist() == [True, False, True, True, False, False]
    assert view.word_count == 3
    assert view.word_length == (1 + 2 + 3) / 3
    assert (View("--").word_count, View("--").word_length) == (0, 0.0)


def test_equal_tokens_have_equal_hashes_wherever_they_stand() -> None:
    hashes = View("it's -- it's -").hashes.tolist()
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 3


def test_lines_are_those_with_something_on_them() -> None:
    assert View(" a \n\n \t\nb\n").lines == ["a", "b"]


def test_alphabetic_share_is_of_what_white_space_parts() -> None:
    assert View("a, 1 -- b2 静夜").alphabetic_share == 3 / 5
    assert View(" \n").alphabetic_share == 0.0
