"""Verdicts: names of rules, their order, what C4 leaves, real text."""

import json
import pickle
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.corpus_config import (
    C4Config,
    CharactersConfig,
    FilterConfig,
    GopherConfig,
    LanguageConfig,
    RepetitionConfig,
    WordsConfig,
)
from llm.filters import Filters, Verdict

ENGLISH = (
    "The king's horses ran to the wall, and all of his men came with them that morning. They saw "
    "an egg which had fallen, broken beyond what anyone could mend. Nobody knew how it got there, "
    "or why it sat so high. So everyone went home again before dinner was cold."
)


def test_without_rules_everything_is_kept() -> None:
    filters = Filters(FilterConfig())
    assert filters.names == []
    assert filters.judge("{}") == ("{}", None)


@pytest.fixture
def word_file(tmp_path: Path) -> str:
    path = tmp_path / "words.txt"
    path.write_text("egg\n")
    return str(path)


def all_rules(word_file: str) -> FilterConfig:
    return FilterConfig(
        characters=CharactersConfig(least=10, most=5000),
        language=LanguageConfig(keep=("en",)),
        gopher=GopherConfig(least_words=5),
        repetition=RepetitionConfig(),
        c4=C4Config(least_sentences=1),
        words=WordsConfig(file=word_file, most=1),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ENGLISH, None),
        ("no end", "c4.least_sentences"),
        (f"{ENGLISH} {{x}}.", "c4.braces"),
        ("A b c.", "characters.least"),
        (ENGLISH * 20, "characters.most"),
        ("Humpty Dumpty fell down.", "gopher.least_words"),
        (f"{ENGLISH}\nThe egg!! An egg is an egg.", "words"),
        (f"{ENGLISH}\n{ENGLISH.replace('egg', 'owl')}", "repetition.repeated_5_grams"),
        ("To be that of: das Ei fiel von der Mauer und zerbrach sofort ganz.", "language"),
    ],
)
def test_a_verdict_names_the_first_broken_rule(
    word_file: str, text: str, reason: str | None
) -> None:
    filters = Filters(all_rules(word_file))
    assert filters.judge(text).reason == reason
    assert reason is None or reason in filters.names


def test_names_are_those_of_the_spec_and_only_of_rules_that_are_on(word_file: str) -> None:
    config = FilterConfig(
        characters=CharactersConfig(most=9),
        gopher=GopherConfig(stop_words=None, symbols=None, ellipsis_lines=0.0),
        c4=C4Config(braces=False),
        words=WordsConfig(file=word_file),
        language=LanguageConfig(keep=("en",)),
    )
    names = Filters(config).names
    assert names[0] == "c4.line_ends"
    assert names[-2:] == ["words", "language"]
    assert "characters.most" in names
    assert {"gopher.least_words", "gopher.ellipsis_lines"} <= set(names)
    assert {"gopher.stop_words", "gopher.symbols", "c4.braces"}.isdisjoint(names)
    assert not any(name.startswith("repetition") for name in names)


def test_lines_that_c4_removes_are_judged_by_no_other_rule() -> None:
    filters = Filters(FilterConfig(c4=C4Config(), characters=CharactersConfig(most=300)))
    assert filters.judge("menu " * 90 + "\n" + ENGLISH) == Verdict(ENGLISH, "c4.least_sentences")
    text = f"{ENGLISH} The end."
    assert filters.judge("menu " * 90 + "\n" + text) == Verdict(text, None)


def test_filters_travel_to_workers_with_their_word_list(word_file: str) -> None:
    filters = Filters(all_rules(word_file))
    Path(word_file).unlink()
    copy = pickle.loads(pickle.dumps(filters))
    assert copy.judge(f"{ENGLISH} Egg.") == filters.judge(f"{ENGLISH} Egg.")
    assert copy.judge(f"{ENGLISH} Egg.").reason == "words"


@settings(deadline=None)
@given(st.text() | st.text(st.sampled_from("a.'’ -#\n{静é")))
def test_no_text_is_too_strange_to_be_judged(text: str) -> None:
    config = FilterConfig(
        characters=CharactersConfig(),
        language=LanguageConfig(keep=("en",), threshold=0.0),
        gopher=GopherConfig(least_words=0, stop_words=0, alphabetic_words=0.0, symbols=None),
        repetition=RepetitionConfig(),
        c4=C4Config(line_ends=False, least_sentences=None, least_line_words=None),
    )
    filters = Filters(config)
    kept, reason = filters.judge(text)
    assert reason is None or reason in filters.names
    assert kept == "\n".join(line for line in text.splitlines())


def test_most_of_wikipedia_and_of_the_web_is_kept(shared_data: Path) -> None:
    filters = Filters(FilterConfig(gopher=GopherConfig(), repetition=RepetitionConfig()))
    pages = (shared_data / "a_pretrain/en/c4_demo.jsonl").read_text().splitlines()
    reasons = Counter(filters.judge(json.loads(page)["text"]).reason for page in pages)
    assert reasons[None] > 0.75 * len(pages)
    articles = (shared_data / "a_pretrain/en/wiki_demo.txt").read_text().splitlines()
    reasons = Counter(filters.judge(article).reason for article in articles if article)
    assert reasons[None] > 0.9 * len(articles)
