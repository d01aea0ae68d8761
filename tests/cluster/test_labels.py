"""What a selector asks of a node's labels."""

import pytest

from cluster.labels import CONDITION, KEY, meets

CASES = {
    "train": (True, False, False),
    "!train": (False, True, True),
    "in(train, both)": (True, False, False),
    "in(data,train)": (True, True, False),
    "!in(train, both)": (False, True, True),
}
"""Conditions, and whether nodes of role train, of role data and of none meet them."""


@pytest.mark.parametrize("condition", CASES)
def test_conditions_mean_what_they_mean_to_ray(condition: str) -> None:
    nodes: list[dict[str, str]] = [{"role": "train"}, {"role": "data"}, {}]
    assert tuple(meets(labels, {"role": condition}) for labels in nodes) == CASES[condition]


def test_all_conditions_must_hold_and_none_is_always_met() -> None:
    assert meets({"a": "1", "b": "2"}, {"a": "1", "b": "in(2, 3)"})
    assert not meets({"a": "1", "b": "4"}, {"a": "1", "b": "in(2, 3)"})
    assert meets({"a": "1"}, {})


@pytest.mark.parametrize("condition", [*CASES, "a-b_c.9"])
def test_ray_takes_the_conditions_that_we_take(condition: str) -> None:
    from ray._private.label_utils import validate_label_selector

    assert CONDITION.fullmatch(condition)
    assert validate_label_selector({"role": condition}) is None


@pytest.mark.parametrize("condition", ["", "in()", "-a", "a b", "!!a", "in(a", "x" * 64])
def test_others_are_told_apart(condition: str) -> None:
    assert not CONDITION.fullmatch(condition)


def test_keys_may_have_a_prefix() -> None:
    assert KEY.fullmatch("ray.io/accelerator-type") and KEY.fullmatch("role")
    assert not KEY.fullmatch("a b") and not KEY.fullmatch("a/")
