"""What guards say about figures; thresholds are those of the config, never beyond them."""

from dataclasses import replace

import pytest

from llm.align_config import GuardConfig
from llm.guards import (
    Figures,
    Memory,
    judge,
    judge_ratio,
    judge_validation,
    shrunk,
    validated,
)

HEALTHY = Figures(
    mismatch=0.01, kl=3.0, kl_error=0.2, entropy=2.0, length=20.0, same=0.05, answers=64
)
CONFIG = GuardConfig(length=2.0)
SHRINK = GuardConfig(length=2.0, action="shrink")


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("mismatch", {"mismatch": 0.11}),
        ("mismatch", {"mismatch": float("nan")}),
        ("negative", {"kl": -0.5, "kl_error": 0.1}),
        ("divergence", {"kl": 100.5}),
        ("entropy", {"entropy": 0.019}),
        ("length", {"length": 1.9}),
        ("same", {"same": 0.91}),
    ],
)
def test_each_way_to_go_wrong_is_noticed_and_named(kind: str, wrong: dict[str, float]) -> None:
    verdict = judge(replace(HEALTHY, **wrong), Memory(), 7, CONFIG)
    assert verdict is not None
    assert (verdict.kind, verdict.action) == (kind, "stop")


def test_a_message_names_the_figure_the_limit_and_the_remedy() -> None:
    verdict = judge(replace(HEALTHY, kl=120.0), Memory(), 7, CONFIG)
    assert verdict is not None
    assert "120 nats" in verdict.message
    assert "guards.kl: 100" in verdict.message
    assert "raise kl.coefficient" in verdict.message


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"mismatch": 0.1},
        {"kl": -0.5, "kl_error": 0.2},  # within four standard errors of 0
        {"kl": -0.09, "kl_error": 0.001},
        {"kl": 100.0},
        {"entropy": 0.02},
        {"length": 2.0},
        {"same": 0.9},
        {"same": 1.0, "answers": 15},
    ],
)
def test_what_a_limit_still_allows_passes(odd: dict[str, float]) -> None:
    assert judge(replace(HEALTHY, **odd), Memory(), 7, CONFIG) is None


def test_the_fourth_time_to_shrink_is_the_end() -> None:
    memory, collapsed = Memory(), replace(HEALTHY, entropy=0.0)
    actions = []
    for step in (10, 20, 30, 40):
        verdict = judge(collapsed, memory, step, SHRINK)
        assert verdict is not None
        actions.append(verdict.action)
        memory = shrunk(memory, step)
    assert actions == ["shrink", "shrink", "shrink", "stop"]


def test_a_smaller_step_has_five_steps_to_show_its_worth() -> None:
    collapsed, memory = replace(HEALTHY, entropy=0.0), shrunk(Memory(), 10)
    judged = [judge(collapsed, memory, step, SHRINK) is not None for step in range(11, 17)]
    assert judged == [False, False, False, False, True, True]


def test_ratios_other_than_one_before_the_first_update_are_noticed() -> None:
    assert judge_ratio(0.1, Memory(), 0, CONFIG) is None
    verdict = judge_ratio(0.2, Memory(), 0, CONFIG)
    assert verdict is not None and verdict.kind == "ratio"


def test_a_reward_that_rises_while_people_disagree_more_is_noticed() -> None:
    memory = validated(validated(Memory(), 0.0, 0.5), 0.4, 0.7)
    assert (memory.best_preference, memory.reward_then) == (0.7, 0.4)
    verdict = judge_validation(0.5, 0.59, memory, 9, CONFIG)
    assert verdict is not None and verdict.kind == "preference"
    assert judge_validation(0.5, 0.61, memory, 9, CONFIG) is None  # 9 points below the best
    assert judge_validation(0.3, 0.59, memory, 9, CONFIG) is None  # the reward fell, too


def test_the_first_validation_has_nothing_to_fall_below() -> None:
    assert judge_validation(5.0, 0.0, Memory(), 0, CONFIG) is None


def test_what_guards_remember_survives_a_checkpoint() -> None:
    memory = replace(shrunk(Memory(), 12), best_preference=0.625, reward_then=-0.5)
    assert Memory.from_floats(memory.to_floats()) == memory
