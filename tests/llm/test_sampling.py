"""Filters with probabilities worked by hand; draws against the distribution they come from."""

import pytest
import torch

from llm.config import SamplingConfig
from llm.sampling import heated, keep_min_p, keep_top_k, keep_top_p, probabilities, sample

LOGITS = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()  # most probable first: tokens 1, 3, 2, 0


def kept(logits: torch.Tensor) -> list[int]:
    return logits.isfinite().nonzero().flatten().tolist()


def chances(**settings) -> torch.Tensor:
    return probabilities(LOGITS, SamplingConfig(**({"temperature": 1.0} | settings)))


def draws(count: int, seed: int, **settings) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    config = SamplingConfig(**settings)
    return [sample(LOGITS, config, generator) for _ in range(count)]


def test_temperature_divides_logits():
    # p^(1/T): a temperature of 1/2 squares probabilities: 1, 16, 4, 9 of 30.
    torch.testing.assert_close(chances(temperature=0.5), torch.tensor([1, 16, 4, 9]) / 30)


def test_no_filter_leaves_the_distribution():
    torch.testing.assert_close(chances(), torch.tensor([0.1, 0.4, 0.2, 0.3]))


def test_top_k_by_hand():
    torch.testing.assert_close(chances(top_k=2), torch.tensor([0, 4, 0, 3]) / 7)


def test_top_k_keeps_exactly_k_of_equals():
    assert len(kept(keep_top_k(torch.zeros(5), 2))) == 2


def test_top_k_beyond_the_vocabulary_keeps_all():
    torch.testing.assert_close(keep_top_k(LOGITS, 99), LOGITS)


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.05, [1]), (0.39, [1]), (0.6, [1, 3]), (0.8, [1, 2, 3]), (0.95, [0, 1, 2, 3])],
)
def test_top_p_keeps_the_fewest_that_reach_p(p, expected):
    assert kept(keep_top_p(LOGITS, p)) == expected


def test_top_p_renormalises():
    torch.testing.assert_close(chances(top_p=0.6), torch.tensor([0, 4, 0, 3]) / 7)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.2, [0, 1, 2, 3]), (0.3, [1, 2, 3]), (0.6, [1, 3]), (0.99, [1])]
)
def test_min_p_drops_what_is_less_probable_than_a_share_of_the_best(share, expected):
    assert kept(keep_min_p(LOGITS, share)) == expected


def test_top_k_comes_before_top_p():
    # After top_k 2 the best has 4/7 = 0.57 >= 0.5; before, it had 0.4 and would need a second one.
    assert chances(top_k=2, top_p=0.5).tolist() == [0, 1, 0, 0]
    assert kept(keep_top_p(LOGITS, 0.5)) == [1, 3]


def test_temperature_comes_before_min_p():
    # At temperature 1/2 token 3 has 9/16 of the best's probability; at 1 it has 3/4.
    assert chances(temperature=0.5, min_p=0.6).tolist() == [0, 1, 0, 0]
    assert (chances(min_p=0.6) > 0).tolist() == [False, True, False, True]


def test_a_batch_is_filtered_row_by_row():
    rows = torch.stack((LOGITS, LOGITS.flip(0)))
    config = SamplingConfig(temperature=0.7, top_k=3, top_p=0.8, min_p=0.1)
    expected = torch.stack([probabilities(row, config) for row in rows])
    torch.testing.assert_close(probabilities(rows, config), expected)


def test_temperature_zero_is_argmax_and_draws_nothing():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert sample(LOGITS, SamplingConfig(temperature=0.0, top_p=0.1), generator) == 1
    assert torch.equal(generator.get_state(), before)


def test_temperature_zero_takes_the_first_of_equals():
    config = SamplingConfig(temperature=0.0)
    assert sample(torch.tensor([0.0, 2.0, 2.0]), config, torch.Generator()) == 1


def test_a_tiny_temperature_does_not_overflow():
    assert heated(torch.tensor([3e4, 2e4]), 1e-40).tolist() == [0, -torch.inf]


def test_same_seed_same_draws():
    assert draws(50, seed=1, temperature=1.0) == draws(50, seed=1, temperature=1.0)
    assert draws(50, seed=1, temperature=1.0) != draws(50, seed=2, temperature=1.0)


def test_frequencies_follow_the_distribution():
    count, expected = 4000, chances(top_k=3)
    drawn = torch.bincount(
        torch.tensor(draws(count, seed=0, temperature=1.0, top_k=3)), minlength=4
    )
    assert drawn[0] == 0
    surprise = ((drawn - count * expected)[1:].square() / (count * expected[1:])).sum()
    assert surprise < 13.8  # chi-square with 2 degrees of freedom exceeds it once in 1,000


def test_half_precision_logits_are_sampled_in_fp32():
    assert probabilities(LOGITS.bfloat16(), SamplingConfig()).dtype == torch.float32
