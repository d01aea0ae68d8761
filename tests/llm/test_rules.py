"""Rules as users write them, and the one for GSM8K on its own answers."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest

from llm.errors import SpecError, TrainingError
from llm.rules import gsm8k, load_rule, result_of


def written(folder: Path, text: str) -> str:
    path = folder / "rewards.py"
    path.write_text(text)
    return str(path)


def test_a_rule_is_found_in_a_file_and_in_a_module(tmp_path: Path) -> None:
    place = written(tmp_path, "def longest(prompt, answer, reference):\n    return len(answer)\n")
    assert load_rule(f"{place}:longest")("q", "four", "r") == 4.0
    assert load_rule("llm.rules:gsm8k")("q", "so 72", "#### 72") == 1.0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gsm8k", r"'gsm8k' names no function; write FILE\.py:NAME or MODULE:NAME"),
        ("llm.rules:nothing", r"llm\.rules has no function nothing; define nothing\(prompt"),
        ("llm.nowhere:rule", r"llm\.nowhere cannot be loaded \(ModuleNotFoundError"),
        ("/nowhere/rewards.py:rule", r"cannot be loaded \(FileNotFoundError"),
    ],
)
def test_a_rule_that_is_not_there_is_explained(name: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        load_rule(name)


def test_a_rule_that_does_not_take_three_texts_is_refused(tmp_path: Path) -> None:
    place = written(tmp_path, "def short(prompt, answer):\n    return 1\n")
    with pytest.raises(SpecError, match=r"called with three texts, \(prompt, answer, reference\)"):
        load_rule(f"{place}:short")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 1 / 0", r"failed on the answer 'yes' to 'no\?' \(ZeroDivisionError"),
        ("return None", r"failed on the answer 'yes' .*TypeError.*must return a number"),
        ("return float('nan')", r"returned nan for the answer 'yes'.*finite"),
    ],
)
def test_a_rule_that_fails_names_the_answer(tmp_path: Path, body: str, said: str) -> None:
    place = written(tmp_path, f"def rule(prompt, answer, reference):\n    {body}\n")
    with pytest.raises(TrainingError, match=said):
        load_rule(f"{place}:rule")("no?", "yes", "")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("She has 3 apples and 4 pears, so 7.", Decimal(7)),
        ("It costs $1,250.50", Decimal("1250.5")),
        ("2 + 2 = 4\n#### 4 apples out of 9", Decimal(4)),
        ("The change is -3", Decimal(-3)),
        ("#### none", None),
        ("no number here", None),
        ("", None),
    ],
)
def test_the_result_is_the_last_number_or_the_one_behind_the_mark(
    text: str, result: Decimal | None
) -> None:
    assert result_of(text) == result


def test_a_number_is_right_however_it_is_written() -> None:
    assert gsm8k("", "That makes 1,000.0 clips", "#### 1000") == 1.0
    assert gsm8k("", "That makes 1001 clips", "#### 1000") == 0.0
    assert gsm8k("", "I do not know", "#### 1000") == 0.0


def test_every_answer_of_gsm8k_is_right_and_the_next_one_is_not(shared_data: Path) -> None:
    with gzip.open(shared_data / "c_sft" / "gsm8k_train.jsonl.gz", "rt") as file:
        answers = [json.loads(line)["answer"] for line in file]
    assert len(answers) == 7473
    assert all(gsm8k("", answer, answer) for answer in answers)
    assert all(result_of(answer) is not None for answer in answers)
    plain = [answer.replace("####", "The answer is") for answer in answers]
    assert sum(gsm8k("", a, b) for a, b in zip(plain, answers, strict=True)) == 7473
