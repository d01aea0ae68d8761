"""Languages: of sentences, of excerpts against whole texts, and at the threshold."""

import json
from pathlib import Path

import pytest

from llm.corpus_config import LanguageConfig
from llm.language import EXCERPT, excerpt, identifier, is_wanted, recognise

ENGLISH = "Humpty Dumpty sat on a wall, Humpty Dumpty had a great fall."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (ENGLISH, "en"),
        ("Sah ein Knab ein Röslein stehn, Röslein auf der Heiden.", "de"),
        ("Au clair de la lune, mon ami Pierrot, prête-moi ta plume.", "fr"),
        ("床前明月光，疑是地上霜。举头望明月，低头思故乡。", "zh"),
    ],
)
def test_sentences_are_recognised(text: str, language: str) -> None:
    assert recognise(text)[0] == language


def test_a_text_is_kept_if_its_language_is_wanted_and_sure_enough() -> None:
    probability = recognise(ENGLISH)[1]
    assert 0.5 < probability < 1
    for keep, threshold, wanted in [
        (("en",), probability, True),
        (("de", "en"), 0.0, True),
        (("en",), probability + 1e-6, False),
        (("de",), 0.0, False),
    ]:
        assert is_wanted(ENGLISH, LanguageConfig(keep=keep, threshold=threshold)) == wanted


def test_an_excerpt_is_the_beginning_the_middle_and_the_end() -> None:
    assert excerpt("a" * 3 * EXCERPT) == "a" * 3 * EXCERPT
    text = "a" * 5000 + "b" * EXCERPT + "c" * 5000
    assert excerpt(text) == " ".join(letter * EXCERPT for letter in "abc")


def test_excerpts_are_recognised_as_their_texts_are(shared_data: Path) -> None:
    lines = (shared_data / "a_pretrain/en/c4_demo.jsonl").read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    long = [text for text in texts if len(text) > 6 * EXCERPT]
    assert len(long) > 30
    assert [recognise(text)[0] for text in long] == [identifier().classify(t)[0] for t in long]
