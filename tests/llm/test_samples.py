"""Samples: a few of each kind, the same however a corpus is cut up."""

import json

from hypothesis import given
from hypothesis import strategies as st

from llm.samples import CHARACTERS, EACH, Samples, difference, excerpt, from_json


def sampled(ids: list[str], seed: int = 1) -> Samples:
    samples = Samples(seed)
    for id in ids:
        samples.offer("dropped", "language", id, lambda id=id: (f"text of {id}", ""))
    return samples


IDS = [f"web/{number}" for number in range(50)]


@given(st.lists(st.integers(0, 4), min_size=50, max_size=50), st.randoms(use_true_random=False))
def test_samples_do_not_depend_on_portions(portion_of: list[int], source: object) -> None:
    order = list(range(5))
    source.shuffle(order)  # type: ignore[attr-defined]
    merged = Samples(1)
    for portion in order:
        own = [id for id, number in zip(IDS, portion_of, strict=True) if number == portion]
        for sample in sampled(own).all():
            merged.add(sample)
    assert merged.all() == sampled(IDS).all()
    assert len(merged.all()) == EACH


def test_the_seed_decides_the_choice() -> None:
    choices = {tuple(one.id for one in sampled(IDS, seed).all()) for seed in range(5)}
    assert len(choices) == 5


def test_an_excerpt_is_made_of_chosen_documents_only() -> None:
    made = []
    samples = Samples(1)
    for id in sorted(IDS * 20):
        samples.offer("kept", "web", id, lambda id=id: (made.append(id) or "text", ""))
    assert EACH <= len(made) < 25


def test_samples_travel_as_json() -> None:
    samples = sampled(IDS)
    assert from_json(json.loads(json.dumps(samples.to_json()))) == samples.all()


def test_excerpts_begin_shortly_before_the_first_change() -> None:
    before = "a" * 1000 + "X" + "b" * 1000
    old, new = difference(before, before.replace("X", ""))
    assert old == "…" + "a" * 60 + "X" + "b" * (CHARACTERS - 61) + "…"
    assert new == "…" + "a" * 60 + "b" * (CHARACTERS - 60) + "…"


def test_equal_and_short_texts_are_shown_from_their_beginning() -> None:
    assert difference("same", "same") == ("same", "same")
    assert difference("", "x") == ("", "x")
    assert excerpt("x" * (CHARACTERS + 1)) == "x" * CHARACTERS + "…"
