"""Words against regular expressions, folding against unicodedata, hashes for lack of collisions."""

import unicodedata

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.words import BLOCK, Table, find_words, fold, ngram_hashes, normal

PLANES = st.characters(max_codepoint=0x2FFFF, exclude_categories=["Cs"])

SCRIPTS = st.sampled_from(list("aZ ßİſéÅ’…ﬁ２Ⅷ½\u0301\u0327\u0323가ᅡᆨ한がカﾞ々中国，。 \n"))


def words_of(text: str) -> list[str]:
    """The words themselves."""
    found = find_words(text)
    return [text[start:end] for start, end in zip(found.starts, found.ends, strict=True)]


def test_a_word_is_a_run_of_letters_marks_and_digits() -> None:
    assert words_of("The 2nd dog's a_x: naïve!") == ["The", "2nd", "dog", "s", "a", "x", "naïve"]
    assert words_of("हिन्दी में") == ["हिन्दी", "में"]


def test_scripts_without_spaces_give_a_word_for_every_character() -> None:
    assert words_of("静夜思，abc明月2") == ["静", "夜", "思", "abc", "明", "月", "2"]
    assert words_of("カナ ไทย") == ["カ", "ナ", "ไ", "ท", "ย"]
    assert words_of("𠮷野家") == ["𠮷", "野", "家"]


def test_texts_without_words_have_none() -> None:
    assert words_of("") == words_of(" \n") == words_of("... ☺ --") == []


@settings(deadline=None)
@given(st.text(PLANES | SCRIPTS))
def test_words_cover_exactly_the_letters_marks_and_digits(text: str) -> None:
    wanted = [c for c in text if unicodedata.category(c)[0] in "LMN" or ord(c) >= 0x20000]
    assert [c for word in words_of(text) for c in word] == wanted


@settings(deadline=None)
@given(st.lists(st.text(SCRIPTS | PLANES, max_size=8)))
def test_equal_words_have_equal_hashes_and_others_do_not(parts: list[str]) -> None:
    text = " ".join(parts)
    words = words_of(text)
    assert len(set(find_words(text).hashes.tolist())) == len(set(words))


def test_hashes_are_the_same_in_every_process_and_release() -> None:
    hashes = find_words("humpty dumpty 静").hashes
    assert [f"{value:016x}" for value in hashes.tolist()] == [
        "062bd926d9973c6c",
        "5381373e874eaf33",
        "3b363ca1bd8bd35d",
    ]


def test_hashes_do_not_depend_on_where_a_word_stands() -> None:
    text = "egg " + "x" * (BLOCK - 6) + " egg " + "y" * 3 * BLOCK + " egg"
    hashes = find_words(text).hashes
    assert hashes[0] == hashes[2] == hashes[4]
    assert len(set(hashes.tolist())) == 3


def test_anagrams_and_word_orders_differ() -> None:
    one, two, three = find_words("abc acb cab").hashes
    assert len({int(one), int(two), int(three)}) == 3
    assert ngram_hashes(np.array([one, two]), 2) != ngram_hashes(np.array([two, one]), 2)


def test_runs_are_as_many_as_fit() -> None:
    words = find_words("a b c d").hashes
    assert [len(ngram_hashes(words, n)) for n in (1, 3, 4, 5)] == [4, 2, 1, 0]
    assert ngram_hashes(words, 2)[1] == ngram_hashes(find_words("b c").hashes, 2)[0]


def test_normal_is_nfkc_with_folded_case() -> None:
    assert normal("Ｈｕｍｐｔｙ ﬁt STRASSE Straße Ⅷ…") == "humpty fit strasse strasse viii..."


@settings(deadline=None)
@given(st.text(PLANES | SCRIPTS))
def test_the_fast_way_of_folding_is_the_one_by_the_book(text: str) -> None:
    assert normal(text) == fold(text)


def test_every_character_folds_as_by_the_book_between_letters() -> None:
    for code in (*range(0xD800), *range(0xE000, 0x30000)):
        text = f"e{chr(code)}ᄀ"
        assert normal(text) == fold(text), hex(code)


def test_a_table_looks_up_each_block_of_characters_once() -> None:
    asked: list[int] = []

    def double(code: int) -> int:
        asked.append(code)
        return 2 * code

    table = Table(double, np.uint32)
    assert asked == []
    assert table(np.array([0x41, 0x3000, 0x42])).tolist() == [0x82, 0x6000, 0x84]
    assert table(np.array([0x30FF, 0])).tolist() == [0x61FE, 0]
    assert asked == [*range(0x100), *range(0x3000, 0x3100)]
    assert table(np.array([], np.uint32)).tolist() == []
