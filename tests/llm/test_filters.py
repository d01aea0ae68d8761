"""Verdicts: names of rules, their order, what C4 leaves, real text."""

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import get_args, get_type_hints

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


def is_key(reason: str) -> bool:
    """Whether a reason is written as the spec's keys are."""
    group, _, rule = reason.partition(".")
    hints = get_type_hints(FilterConfig)[group]
    return not rule or rule in get_args(hints)[0].__dataclass_fields__


def test_without_rules_everything_is_kept() -> None:
    filters = Filters(FilterConfig())
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
    assert reason is None or is_key(reason)


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
    assert reason is None or is_key(reason)
    assert kept == "\n".join(line for line in text.splitlines())


def test_most_of_wikipedia_and_of_the_web_is_kept(shared_data: Path) -> None:
    filters = Filters(FilterConfig(gopher=GopherConfig(), repetition=RepetitionConfig()))
    pages = (shared_data / "a_pretrain/en/c4_demo.jsonl").read_text().splitlines()
    reasons = Counter(filters.judge(json.loads(page)["text"]).reason for page in pages)
    assert reasons[None] > 0.75 * len(pages)
    articles = (shared_data / "a_pretrain/en/wiki_demo.txt").read_text().splitlines()
    reasons = Counter(filters.judge(article).reason for article in articles if article)
    assert reasons[None] > 0.9 * len(articles)
