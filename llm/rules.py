"""Rewards that a Python function gives, where right and wrong can be told without a model.

    rule: rewards.py:shortest        # a file, seen from the spec
    rule: llm.rules:gsm8k            # a module

The function is called as NAME(prompt, answer, reference): the question, what the policy answered
and what the data answers, all as text. It returns a number, which is the reward as it stands,
neither normalised nor clipped. It runs in every process that judges answers, once per answer, so it
must give the same number for the same texts.
"""

import importlib
import inspect
import math
import re
from collections.abc import Callable
from decimal import Decimal
from types import ModuleType
from typing import Any

from llm.errors import SpecError, TrainingError
from llm.python_file import load_file

Rule = Callable[[str, str, str], float]

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")

RESULT = "####"
"""Stands before the result in GSM8K's answers (Cobbe et al. 2021)."""


def load_rule(name: str) -> Rule:
    """The function that `FILE.py:NAME` or `MODULE:NAME` names."""
    place, _, function = name.rpartition(":")
    if not place or not function:
        raise SpecError(
            f"rule: {name!r} names no function; write FILE.py:NAME or MODULE:NAME, for example "
            "llm.rules:gsm8k"
        )
    found = getattr(module_at(place, name), function, None)
    if not callable(found):
        raise SpecError(
            f"rule: {name!r}: {place} has no function {function}; define "
            f"{function}(prompt, answer, reference) there"
        )
    require_three(found, name)
    return checked(found, name)


def module_at(place: str, name: str) -> ModuleType:
    """A module by its file or its name; whatever fails in it is the user's to mend."""
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        return load_file(place)
    except Exception as error:
        raise SpecError(
            f"rule: {name!r}: {place} cannot be loaded ({type(error).__name__}: {error}); give a "
            "Python file that exists, or a module that Python finds from here"
        ) from error


def require_three(rule: Callable[..., Any], name: str) -> None:
    """Refuse a function that cannot be called with three texts."""
    try:
        inspect.signature(rule).bind("", "", "")
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"rule: {name!r} is called with three texts, (prompt, answer, reference): {error}"
        ) from error


def checked(rule: Callable[[str, str, str], Any], name: str) -> Rule:
    """The same function, whose failures and odd results are explained."""

    def score(prompt: str, answer: str, reference: str) -> float:
        try:
            value = float(rule(prompt, answer, reference))
        except Exception as error:
            raise TrainingError(
                f"rule: {name} failed on the answer {answer!r} to {prompt!r} "
                f"({type(error).__name__}: {error}); it must return a number for every text"
            ) from error
        if not math.isfinite(value):
            raise TrainingError(
                f"rule: {name} returned {value} for the answer {answer!r} to {prompt!r}; "
                "return a finite number"
            )
        return value

    return score


def gsm8k(prompt: str, answer: str, reference: str) -> float:
    """1 if the answer comes to the reference's number, else 0."""
    result = result_of(answer)
    return float(result is not None and result == result_of(reference))


def result_of(text: str) -> Decimal | None:
    """The number behind ####; without that mark the last number of the text."""
    _, mark, behind = text.rpartition(RESULT)
    numbers = NUMBER.findall(behind if mark else text)
    if not numbers:
        return None
    return Decimal((numbers[0] if mark else numbers[-1]).replace(",", ""))
