"""Parts of evaluation sets in documents: shared runs of words, and none by chance."""

import json
import pickle
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from llm.contamination import Grams
from llm.words import find_words, normal

ITEM = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"

WORDS = st.lists(st.sampled_from("abcdef"), max_size=30)


def test_a_shared_run_of_n_words_is_found_and_a_shorter_one_is_not() -> None:
    grams = Grams([ITEM], 13)
    words = ITEM.split()
    assert len(grams) == 2
    assert grams.hits(f"and {' '.join(words[1:])} more")
    assert grams.hits(" - ".join(words[:13]).upper() + "!")
    assert not grams.hits(f"{' '.join(words[:12])} and thirteen")
    assert not grams.hits("")


def test_a_short_text_counts_as_a_whole_from_eight_words_on() -> None:
    eight, seven = " ".join(ITEM.split()[:8]), " ".join(ITEM.split()[:7])
    grams = Grams([eight, seven, "yes", ""], 13)
    assert len(grams) == 1
    assert grams.hits(f"so {eight} so")
    assert not grams.hits(f"so {seven} so")


def test_runs_of_less_than_eight_words_can_be_asked_for() -> None:
    grams = Grams(["a b c d e", "a b c d"], 5)
    assert len(grams) == 1
    assert grams.hits("x a b c d e")


def test_chinese_is_compared_by_characters() -> None:
    grams = Grams(["床前明月光，疑是地上霜。举头望明月"], 13)
    assert grams.hits("李白：床前明月光疑是地上霜举头望")
    assert not grams.hits("李白：床前明月光疑是地上霜")


@settings(deadline=None)
@given(st.lists(WORDS, max_size=4), WORDS)
def test_hits_are_those_of_sets_of_runs(items: list[list[str]], document: list[str]) -> None:
    n = 9
    runs = {tuple(item[i : i + n]) for item in items for i in range(len(item) - n + 1)}
    runs |= {tuple(item) for item in items if len(item) == 8}
    here = {tuple(document[i : i + k]) for k in (8, n) for i in range(len(document) - k + 1)}
    grams = Grams([" ".join(item) for item in items], n)
    assert grams.hits(" ".join(document)) == bool(runs & here)


def test_grams_travel_to_workers() -> None:
    grams = pickle.loads(pickle.dumps(Grams([ITEM], 13)))
    assert grams.hits(ITEM)


def test_real_questions_are_found_in_pages_that_quote_them(shared_data: Path) -> None:
    lines = (shared_data / "e_eval/vicuna_80_questions.jsonl").read_text().splitlines()
    questions = [turn for line in lines for turn in json.loads(line)["turns"]]
    pages = (shared_data / "a_pretrain/en/c4_demo.jsonl").read_text().splitlines()
    grams = Grams(questions, 13)
    long = [text for text in questions if len(find_words(normal(text))) >= 8]
    assert len(long) > 40
    for question, page in zip(long, pages, strict=False):
        text = json.loads(page)["text"]
        assert not grams.hits(text)
        assert grams.hits(f"{text[:500]} {question.upper()} {text[500:]}")
