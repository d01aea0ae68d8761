"""The law of a ladder: recovered from trainings that follow a known one, with and without noise."""

import numpy as np
import pytest

from llm.errors import TrainingError
from tune.scaling import (
    HUBER,
    HeldOut,
    Law,
    Training,
    fit_law,
    foretold,
    intervals,
    resampled,
    scaling_of,
    valley_line,
    valleys,
)

CHINCHILLA = Law(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
"""Hoffmann et al. 2022, equation 10."""

BUDGET = 1e21


def ladder(law: Law, noise: float = 0.0, seed: int = 0) -> list[Training]:
    """Five sizes around the best one, on five rungs of equal FLOPs."""
    random = np.random.default_rng(seed)
    found = []
    for flops in np.geomspace(1e17, 1e19, 5):
        for factor in (0.25, 0.5, 1, 2, 4):
            size = factor * law.best(flops).parameters
            tokens = flops / law.cost / size
            loss = float(law.loss(size, tokens)) * float(np.exp(noise * random.normal()))
            found.append(Training(size, tokens, flops, loss))
    return found


def test_a_known_law_is_recovered_from_losses_without_noise() -> None:
    law = fit_law(ladder(CHINCHILLA))
    assert law.alpha == pytest.approx(0.34, rel=0.01)
    assert law.beta == pytest.approx(0.28, rel=0.01)
    assert pytest.approx(1.69, rel=0.01) == law.E
    assert law.best(BUDGET).loss == pytest.approx(CHINCHILLA.best(BUDGET).loss, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_intervals_hold_the_true_exponents_under_noise(seed: int) -> None:
    trainings = ladder(CHINCHILLA, noise=0.003, seed=seed)
    found = intervals(resampled(trainings, 100), BUDGET)
    best = CHINCHILLA.best(BUDGET)
    for key, true in (("alpha", 0.34), ("beta", 0.28), ("E", 1.69), ("loss", best.loss)):
        assert found[key].low <= true <= found[key].high, key
    assert found["alpha"].high - found["alpha"].low < 0.4, "an interval of all values says nothing"


def test_one_training_that_went_wrong_does_not_bend_the_law() -> None:
    trainings = ladder(CHINCHILLA)
    broken = trainings[7]
    trainings[7] = Training(broken.parameters, broken.tokens, broken.flops, 2 * broken.loss)
    assert fit_law(trainings).best(BUDGET).loss == pytest.approx(
        CHINCHILLA.best(BUDGET).loss, rel=0.01
    )


def test_the_best_size_is_where_the_law_is_lowest_at_that_cost() -> None:
    best = CHINCHILLA.best(BUDGET)
    sizes = best.parameters * np.geomspace(0.1, 10, 2001)
    losses = CHINCHILLA.loss(sizes, BUDGET / 6 / sizes)
    assert sizes[losses.argmin()] == pytest.approx(best.parameters, rel=0.01)
    assert 6 * best.parameters * best.tokens == pytest.approx(BUDGET)


def test_the_fit_is_as_good_as_that_of_scipys_l_bfgs() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    trainings = ladder(CHINCHILLA, noise=0.01, seed=1)
    n, d, loss = np.array([(one.parameters, one.tokens, one.loss) for one in trainings]).T

    def error(p: np.ndarray) -> float:
        said = np.logaddexp.reduce(
            [np.full(len(n), p[0]), p[1] - p[3] * np.log(n), p[2] - p[4] * np.log(d)]
        )
        size = np.abs(said - np.log(loss))
        return float(np.where(size <= HUBER, size**2 / 2, HUBER * (size - HUBER / 2)).sum() * 1e4)

    starts = [(e, a, a, x, x) for e in (0.0, 0.5) for a in (5.0, 10.0) for x in (0.3, 0.6)]
    theirs = min(optimize.minimize(error, start, method="L-BFGS-B").fun for start in starts)
    law = fit_law(trainings)
    ours = error(np.array([np.log(law.E), np.log(law.A), np.log(law.B), law.alpha, law.beta]))
    assert ours <= theirs * 1.001


def test_valleys_lie_where_the_law_is_lowest_and_rise_with_its_exponent() -> None:
    found = valleys(ladder(CHINCHILLA))
    assert len(found) == 5 and all(valley.inside for valley in found)
    for valley in found:
        assert valley.parameters == pytest.approx(CHINCHILLA.best(valley.flops).parameters, rel=0.2)
    line = valley_line(found)
    assert line is not None
    assert line[1] == pytest.approx(0.28 / (0.34 + 0.28), abs=0.02)


def test_a_rung_without_a_lowest_point_inside_is_not_trusted() -> None:
    small = [
        one for one in ladder(CHINCHILLA) if one.parameters < CHINCHILLA.best(one.flops).parameters
    ]
    assert (
        not any(valley.inside for valley in valleys(small)) and valley_line(valleys(small)) is None
    )


def test_the_largest_rung_is_foretold_by_the_others_alone() -> None:
    trainings = ladder(CHINCHILLA, noise=0.002)
    held_out = foretold(trainings)
    assert len(held_out.trainings) == 5 and held_out.worst < 0.02
    double = [Training(t.parameters, t.tokens, t.flops, 2 * t.loss) for t in trainings[-5:]]
    assert foretold([*trainings[:-5], *double]).predicted == held_out.predicted


def test_the_error_that_counts_is_that_of_the_best_model_of_the_rung() -> None:
    rung = tuple(Training(size, 1e6, 1e9, loss) for size, loss in ((1e4, 3.0), (1e5, 2.5)))
    held_out = HeldOut(rung, predicted=(3.3, 2.45))
    assert held_out.at_best == pytest.approx(0.02)  # 2.45 of 2.5
    assert held_out.worst == pytest.approx(0.1)


def test_what_a_token_costs_is_taken_from_the_trainings() -> None:
    trainings = [
        Training(t.parameters, t.tokens, 1.5 * t.flops, t.loss) for t in ladder(CHINCHILLA)
    ]
    assert fit_law(trainings).cost == pytest.approx(9.0)


def test_too_few_trainings_are_refused() -> None:
    with pytest.raises(TrainingError, match="too few"):
        fit_law(ladder(CHINCHILLA)[:5])


def test_a_ladder_gives_everything_at_once_quickly() -> None:
    scaling = scaling_of(ladder(CHINCHILLA, noise=0.003), BUDGET, times=100)
    assert scaling.held_out is not None and scaling.held_out.worst < 0.02
    assert scaling.intervals["parameters"].low <= scaling.best.parameters
    assert scaling.best.parameters <= scaling.intervals["parameters"].high


@pytest.mark.parametrize(("factors", "side"), [((2, 4, 8), "smaller"), ((0.1, 0.2, 0.4), "larger")])
def test_a_ladder_beside_the_best_sizes_says_on_which_side_they_are(
    factors: tuple[float, ...], side: str
) -> None:
    found = []
    for flops in np.geomspace(1e17, 1e19, 4):
        for factor in factors:
            size = factor * CHINCHILLA.best(flops).parameters
            tokens = flops / CHINCHILLA.cost / size
            found.append(Training(size, tokens, flops, float(CHINCHILLA.loss(size, tokens))))
    assert scaling_of(found, BUDGET, times=0).one_sided == side
    assert scaling_of(ladder(CHINCHILLA), BUDGET, times=0).one_sided == ""
