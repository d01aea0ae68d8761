"""Tokens are chosen as llm/sampling.py says, row by row, whoever else is in the batch."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.choosing import FEW, Chooser, Filters, Manner, best, logprobs, pick_filtered
from deploy.protocol import Sampling
from llm.config import SamplingConfig
from llm.sampling import heated, probabilities

VOCAB = 40


def manner(index: int = 0, never: tuple[int, ...] = (), limit: int = 50, **sampling) -> Manner:
    return Manner(Sampling(**sampling), never, index, limit)


def logits(rows: int, seed: int = 0, vocab: int = VOCAB) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocab, generator=generator) * 2


KINDS = [
    {},
    {"temperature": 0.0},
    {"temperature": 0.5},
    {"top_k": 3},
    {"top_p": 0.7},
    {"min_p": 0.1, "temperature": 2.0},
    {"top_k": 20, "top_p": 0.9, "min_p": 0.02, "temperature": 0.8},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_tokens_are_as_frequent_as_they_are_probable(kind: dict) -> None:
    count, row = 4000, logits(1)
    manners = [manner(index, **kind) for index in range(count)]
    chosen = Counter(Chooser().choose(row.expand(count, -1), manners, [0] * count))
    if kind.get("temperature") == 0:
        assert chosen == {int(row.argmax()): count}
        return
    expected = probabilities(row[0], SamplingConfig(**({"temperature": 1.0} | kind)))
    for token, share in enumerate(expected.tolist()):
        deviation = (share * (1 - share) / count) ** 0.5
        assert abs(chosen[token] / count - share) <= 5 * deviation
        assert share > 0 or chosen[token] == 0


@settings(max_examples=100, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=8),
    seed=st.integers(0, 1000),
    position=st.integers(0, 9),
)
def test_a_row_does_not_see_the_others(kinds: list, seed: int, position: int) -> None:
    rows = logits(len(kinds), seed)
    manners = [manner(index, seed=seed, **kind) for index, kind in enumerate(kinds)]
    together = Chooser().choose(rows, manners, [position] * len(kinds))
    for row, one in enumerate(manners):
        assert Chooser().choose(rows[row : row + 1], [one], [position]) == [together[row]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    top_k=st.sampled_from([0, 1, 5, FEW - 1, FEW, FEW + 1, 600, 5000]),
    top_p=st.sampled_from([0.1, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 1e-4, 0.3]),
    temperature=st.sampled_from([0.3, 1.0, 5.0]),
)
def test_filters_leave_what_sampling_leaves(
    seed: int, top_k: int, top_p: float, min_p: float, temperature: float
) -> None:
    row = logits(1, seed, vocab=1000)
    uniforms = torch.linspace(0, 1 - 2**-20, 400)
    filters = Filters(*(torch.tensor([[v]]) for v in (top_k or 10**9, top_p, min_p)))
    hot = heated(row, temperature).expand(len(uniforms), -1)
    every = Filters(*(column.expand(len(uniforms), 1) for column in filters))
    chosen = set(pick_filtered(hot, every, uniforms).tolist())
    config = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    expected = probabilities(row[0], config)
    allowed = set(expected.nonzero()[:, 0].tolist())
    assert chosen <= allowed
    assert {token for token in allowed if expected[token] > 1 / 390} <= chosen


def test_equals_go_by_id_however_many_rows_there_are() -> None:
    row = torch.tensor([[1.0, 3.0, 3.0, -1.0, 3.0, float("-inf"), -0.5]])
    for rows in (1, 5, 100):
        assert best(row.expand(rows, -1), 7)[-1].tolist() == [1, 2, 4, 0, 6, 3, 5]


def test_what_was_written_is_penalised_as_often_as_it_was() -> None:
    row = torch.tensor([[5.0, 4.5, 0.0, 0.0]])
    one = manner(temperature=0.0, frequency_penalty=0.4, presence_penalty=0.5)
    chooser, found = Chooser(), []
    for position in range(5):
        found += chooser.choose(row, [one], [position])
    # 5.0, then 4.1 against 4.5, then 4.1 against 3.6, then 3.7 against 3.6, then 3.3 against 3.6
    assert found == [0, 1, 0, 0, 1]


def test_penalties_survive_a_change_of_rows() -> None:
    row = torch.tensor([[5.0, 4.9, 0.0]])
    one, other = manner(temperature=0.0, presence_penalty=0.5), manner(temperature=0.0)
    chooser = Chooser()
    assert chooser.choose(row, [one], [0]) == [0]
    assert chooser.choose(row.expand(2, -1), [other, one], [0, 1]) == [0, 1]
    assert chooser.choose(row.expand(2, -1), [other, one], [1, 2]) == [0, 0]
    assert chooser.choose(row, [one], [3]) == [0]


def test_bias_and_what_is_never_written() -> None:
    row = torch.tensor([[5.0, 4.0, 3.0, 2.0]])
    assert Chooser().choose(row, [manner(temperature=0.0, never=(0,))], [0]) == [1]
    biased = manner(temperature=0.0, never=(0,), logit_bias={3: 10.0, 1: -1.5, 0: 100.0})
    assert Chooser().choose(row, [biased], [0]) == [3]


def test_numbers_are_those_of_seed_index_and_position() -> None:
    row = torch.zeros(1, 1000)

    def chosen(seed: int, index: int, position: int) -> int:
        return Chooser().choose(row, [manner(index, seed=seed)], [position])[0]

    assert chosen(1, 2, 3) == chosen(1, 2, 3)
    others = {chosen(1, 2, 3), chosen(2, 2, 3), chosen(1, 3, 3), chosen(1, 2, 4), chosen(-1, 2, 3)}
    assert len(others) == 5


def test_logits_that_are_no_numbers_are_noticed() -> None:
    with pytest.raises(AssertionError, match="not finite"):
        Chooser().choose(torch.full((1, 5), float("nan")), [manner()], [0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logprobs_are_those_at_temperature_1(dtype: torch.dtype) -> None:
    rows = logits(3).to(dtype)
    expected = rows.float().log_softmax(-1)
    for row, (own, top) in enumerate(logprobs(rows, [4, 5, 6], 3)):
        assert own == pytest.approx(expected[row, 4 + row].item())
        values, ids = expected[row].topk(3)
        assert [value for _, value in top] == pytest.approx(values.tolist())
        assert dtype != torch.float32 or [id for id, _ in top] == ids.tolist()
    assert [top for _, top in logprobs(rows, [1, 2, 3], 0)] == [[], [], []]
