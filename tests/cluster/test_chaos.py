"""Kills at random leave no trace."""

import random
from pathlib import Path

import pytest

from tests.chaos import EVERY, STEPS_PER_KILL, Outcome, chaos, choose

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def outlived(folder: Path, kinds: list[str], seed: int) -> Outcome:
    outcome = chaos(folder, kinds, seed, STEPS_PER_KILL * (len(kinds) + 1))
    print(*outcome.lines(), sep="\n")
    outcome.require_equal()
    outcome.require_few_redone(slack=EVERY)
    return outcome


@pytest.mark.chaos
def test_a_training_outlives_driver_and_node(tmp_path: Path) -> None:
    outlived(tmp_path, ["driver", "node"], seed=3)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [0])
def test_a_training_outlives_twenty_kills(tmp_path: Path, seed: int) -> None:
    outcome = outlived(tmp_path, choose(20, random.Random(seed)), seed)
    assert max(kill.seconds for kill in outcome.kills) <= 30
    assert outcome.goodput_at_scale >= 0.99
