"""Copies: similarity by hand and by python's sets, components by walking, recall on edits."""

import gzip
import json
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.corpus_config import NearConfig
from llm.duplicates import (
    Signer,
    alike,
    batches,
    bucket_edges,
    components,
    exact_key,
    jaccard,
    words_of,
)
from tests.near_set import edited, made_set, sentence, shingles, similarity, truth

NEAR = NearConfig()

EDGES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60)


def edges_of(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, np.int64).reshape(-1, 2)


# -- exact -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copy",
    [
        "HUMPTY DUMPTY sat on a wall",
        "  humpty-dumpty\n\tsat on ... a wall!",
        "Ｈｕｍｐｔｙ Dumpty sat “on” a wall…",
    ],
)
def test_case_space_punctuation_and_form_make_no_difference(copy: str) -> None:
    assert exact_key(copy) == exact_key("Humpty Dumpty sat on a wall.")


@pytest.mark.parametrize(
    "other", ["Humpty Dumptysat on a wall", "Humpty Dumpty sat on 2 walls", ""]
)
def test_other_words_make_another_document(other: str) -> None:
    assert exact_key(other) != exact_key("Humpty Dumpty sat on a wall.")


def test_composed_and_decomposed_letters_are_the_same() -> None:
    assert exact_key("Caf\u00e9 M\u00fcnchen") == exact_key("cafe\u0301 mu\u0308nchen")
    assert exact_key("が行") == exact_key("か\u3099行")


def test_spaces_mean_nothing_in_scripts_without() -> None:
    assert exact_key("床前明月光，疑是地上霜。") == exact_key("床前明月光疑是\n地上霜")
    assert exact_key("ab 静夜") == exact_key("ab静夜") != exact_key("a b静夜")


def test_texts_without_letters_are_compared_as_they_are() -> None:
    assert exact_key("***") == exact_key("***") != exact_key("---")
    assert exact_key("") != exact_key(" ")


def test_exact_keys_are_the_same_in_every_process_and_release() -> None:
    assert exact_key("Humpty!") == (4799972159255790543, 5551993950166723831)


# -- shingles and signatures -----------------------------------------------------------------------


def test_shingles_are_the_set_of_word_runs() -> None:
    signer = Signer(NEAR)
    text = "a b c d e f a b c d e f"  # runs of five: 8 places, 6 different
    assert len(signer.shingles(text)) == 6
    assert (np.diff(signer.shingles(text).astype(object)) > 0).all()


def test_chinese_is_compared_by_characters() -> None:
    one, two = (Signer(NEAR).shingles(text) for text in ("床前明月光疑是地上霜", "明月光，疑是。"))
    assert (len(one), len(two)) == (6, 1)  # runs of five in 10 and in 5 characters
    assert jaccard(one, two) == 1 / 6


def test_short_texts_have_one_shingle_and_are_never_alike_by_chance() -> None:
    signer = Signer(NEAR)
    one, two, none, marks = (signer.shingles(t) for t in ("Humpty Dumpty", "Humpty", "...", "***"))
    assert [len(part) for part in (one, two, none, marks)] == [1, 1, 1, 1]
    assert len({int(part[0]) for part in (one, two, none, marks)}) == 4


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab 静夜.é\n"), max_size=30), max_size=8))
def test_documents_are_signed_alike_alone_and_together(texts: list[str]) -> None:
    signer = Signer(NearConfig(ngram=3, permutations=8, bands=4))
    together = signer.bands(texts)
    assert together.shape == (len(texts), 4)
    for text, keys in zip(texts, together, strict=True):
        assert signer.bands([text])[0].tolist() == keys.tolist()


def test_words_are_counted_for_each_text() -> None:
    hashes, first, count = words_of(["a b", "", "...", "静夜 a"])
    assert (first.tolist(), count.tolist()) == ([0, 2, 2, 2], [2, 0, 0, 3])
    assert hashes[0] == hashes[4]


def test_batches_hold_all_texts_in_order() -> None:
    texts = ["x" * size for size in (10, 300_000, 5, 200_000, 200_000)]
    parts = batches(texts)
    assert [text for part in parts for text in part] == texts
    assert len(parts) > 1


def test_seeds_give_other_permutations_and_the_same_seed_the_same() -> None:
    text = " ".join(sentence(random.Random(1), 50))
    one, same, other = (Signer(NearConfig(seed=seed)).bands([text]) for seed in (1, 1, 2))
    assert (one == same).all()
    assert not (one == other).any()


def test_a_band_key_belongs_to_its_band() -> None:
    signer = Signer(NearConfig(permutations=4, bands=4))
    keys = signer.bands(["one shingle only"])[0]
    assert len(set(keys.tolist())) == 4


def test_signatures_estimate_similarity_as_datasketch_does() -> None:
    source = random.Random(5)
    permutations, ours, theirs = 256, [], []
    signer = Signer(NearConfig(permutations=permutations, bands=16))
    for edits in range(2, 42):
        base = sentence(source, 300)
        texts = [" ".join(base), " ".join(edited(base, edits, source))]
        sets = [shingles(text) for text in texts]
        true = similarity(*sets)
        one, two = signer.signatures(texts)
        ours.append(float((one == two).mean()) - true)
        sketches = [MinHash(num_perm=permutations, seed=1) for _ in sets]
        for sketch, members in zip(sketches, sets, strict=True):
            sketch.update_batch([" ".join(member).encode() for member in members])
        theirs.append(sketches[0].jaccard(sketches[1]) - true)
    bound = 0.5 / permutations**0.5  # the largest standard deviation, at similarity 1/2
    assert max(map(abs, ours)) < 4 * bound
    assert abs(np.mean(ours)) < 3 * bound / len(ours) ** 0.5  # no bias
    assert np.std(ours) < 1.3 * np.std(theirs)


# -- similarity ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_jaccard_is_that_of_sets(one: set[int], two: set[int]) -> None:
    arrays = [np.array(sorted(part), np.uint64) for part in (one, two)]
    expected = len(one & two) / len(one | two) if one | two else 0.0
    assert jaccard(*arrays) == expected


# -- candidates ------------------------------------------------------------------------------------


def test_small_buckets_give_all_pairs_and_large_ones_a_star_and_a_chain() -> None:
    small = bucket_edges(np.full(4, 7, np.uint64), np.array([5, 3, 9, 1]))
    assert small.tolist() == [[1, 3], [1, 5], [1, 9], [3, 5], [3, 9], [5, 9]]
    large = bucket_edges(np.full(10, 7, np.uint64), np.arange(10))
    star, chain = [[0, i] for i in range(1, 10)], [[i, i + 1] for i in range(1, 9)]
    assert large.tolist() == sorted(star + chain)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=60))
def test_candidates_are_those_of_a_loop_over_buckets(rows: list[tuple[int, int]]) -> None:
    buckets = defaultdict(list)
    for key, doc in rows:
        buckets[key].append(doc)
    expected = set()
    for docs in map(sorted, buckets.values()):
        for j in range(len(docs)):
            before = range(j) if len(docs) <= 8 else {0, j - 1} if j else ()
            expected |= {(docs[i], docs[j]) for i in before if docs[i] != docs[j]}
    keys, docs = np.array([row[0] for row in rows], np.uint64), np.array([row[1] for row in rows])
    found = bucket_edges(keys, docs.astype(np.int64))
    assert [tuple(edge) for edge in found.tolist()] == sorted(expected)


# -- components ------------------------------------------------------------------------------------


def flooded(pairs: list[tuple[int, int]]) -> dict[int, int]:
    """The smallest that each is connected with, by walking."""
    near = defaultdict(set)
    for one, two in pairs:
        near[one].add(two)
        near[two].add(one)
    roots: dict[int, int] = {}
    for start in sorted(near):
        waiting = [start]
        while waiting:
            doc = waiting.pop()
            if doc not in roots:
                roots[doc] = start
                waiting += near[doc]
    return roots


@settings(deadline=None)
@given(EDGES)
def test_components_are_those_found_by_walking(pairs: list[tuple[int, int]]) -> None:
    docs, roots = components(edges_of(pairs))
    assert dict(zip(docs.tolist(), roots.tolist(), strict=True)) == flooded(pairs)


def test_a_long_chain_in_any_order_is_one_component() -> None:
    names = np.random.default_rng(3).permutation(20_001)
    docs, roots = components(np.stack([names[:-1], names[1:]], axis=1))
    assert len(docs) == 20_001
    assert not roots.any()


# -- what is alike ---------------------------------------------------------------------------------


def test_edges_stay_whose_ends_are_similar_enough() -> None:
    sets = {3: range(0, 10), 5: range(1, 11), 8: range(2, 12), 9: range(50, 60), 4: range(0, 5)}
    docs, arrays = np.array(list(sets)), [np.array(list(s), np.uint64) for s in sets.values()]
    edges = edges_of([(5, 8), (3, 5), (3, 8), (8, 9), (3, 4)])  # 9/11, 9/11, 8/12, 0, 5/10
    for threshold, expected in {
        0.82: [],
        9 / 11: [[5, 8], [3, 5]],
        8 / 12: [[5, 8], [3, 5], [3, 8]],
        0.5: [[5, 8], [3, 5], [3, 8], [3, 4]],
    }.items():
        assert alike(edges, docs, arrays, threshold).tolist() == expected


def test_without_edges_nothing_is_alike() -> None:
    assert alike(edges_of([]), np.array([], np.int64), [], 0.8).shape == (0, 2)


def found_pairs(texts: list[str], config: NearConfig) -> set[tuple[int, int]]:
    """Candidates whose exact similarity reaches the threshold."""
    signer = Signer(config)
    keys = signer.bands(texts)
    docs = np.repeat(np.arange(len(texts)), config.bands)
    sets = [signer.shingles(text) for text in texts]
    edges = bucket_edges(keys.ravel(), docs).tolist()
    return {(a, b) for a, b in edges if jaccard(sets[a], sets[b]) >= config.threshold}


def test_recall_is_95_percent_at_the_threshold_and_precision_99() -> None:
    texts, family = made_set(250, [1, 6, 8, 10, 12, 14, 30], seed=11)
    true = truth(texts, family)
    found = found_pairs(texts, NEAR)
    wanted = {pair for pair, similar in true.items() if similar >= 0.8}
    at_threshold = {pair for pair in wanted if true[pair] < 0.82}
    assert len(at_threshold) > 200
    assert len(at_threshold & found) / len(at_threshold) >= 0.95
    assert len(wanted & found) / len(wanted) >= 0.98
    assert len(wanted & found) / len(found) >= 0.99


def test_poems_that_stand_twice_are_found(shared_data: Path) -> None:
    with gzip.open(shared_data / "a_pretrain/zh/poetry_tang.jsonl.gz", "rt") as file:
        poems = [json.loads(line)["text"] for line, _ in zip(file, range(8000), strict=False)]
    copies = defaultdict(list)
    for index, poem in enumerate(poems):
        copies["".join(c for c in poem if c.isalnum())].append(index)
    keys = [exact_key(poem) for poem in poems]
    assert len(set(keys)) == len(copies)
    for same in copies.values():
        assert len({keys[index] for index in same}) == 1
