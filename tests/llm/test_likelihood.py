"""Likelihoods are those of the model asked about each text alone, however texts are batched."""

import random

import pytest
import torch

from llm.examinee import behind
from llm.likelihood import Asked, Row, laid_out, likelihoods, rows_of, seen
from llm.model import Transformer
from tests.deploy.tiny import make_model

VOCABULARY, CONTEXT = 50, 64


def alone(model: Transformer, asked: Asked) -> tuple[float, bool]:
    """By one reading of one text, of which the newest `CONTEXT` tokens are read."""
    ids = list(asked.ids)[-CONTEXT - 1 :]
    count = min(len(asked.ids) - asked.start, CONTEXT)
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]]))[0]
    predicted = list(range(len(ids) - 1 - count, len(ids) - 1))
    logprobs = logits.log_softmax(-1)
    greedy = all(int(logits[at].argmax()) == ids[at + 1] for at in predicted)
    return sum(float(logprobs[at, ids[at + 1]]) for at in predicted), greedy


def questions(count: int) -> list[Asked]:
    """Beginnings of 1 to 90 tokens with three endings of 1 to 9, or of one token each."""
    source = random.Random(4)
    asked = []
    for _ in range(count):
        begin = [source.randrange(VOCABULARY) for _ in range(source.randrange(1, 90))]
        most = source.choice([1, 9])
        for _ in range(3):
            end = [source.randrange(VOCABULARY) for _ in range(source.randint(1, most))]
            asked.append(Asked((*begin, *end), len(begin)))
    return asked


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"window": 5},
        {"positions": "learned"},
        {"positions": "alibi"},
        {"positions": "sinusoidal"},
        {"kv_heads": 1},
    ],
)
def test_they_are_those_of_each_text_alone(shape: dict) -> None:
    model = make_model(VOCABULARY, **shape)
    asked = questions(20)
    for one, found in zip(asked, likelihoods(model, asked, "fp32"), strict=True):
        logprob, greedy = alone(model, one)
        assert found.logprob == pytest.approx(logprob, abs=1e-4)
        assert found.greedy is greedy
        assert found.tokens == min(len(one.ids) - one.start, CONTEXT)


def test_an_answer_longer_than_the_context_is_scored_by_its_newest_tokens() -> None:
    model = make_model(VOCABULARY)
    ids = tuple(random.Random(1).randrange(VOCABULARY) for _ in range(100))
    (found,) = likelihoods(model, [Asked(ids, 10)], "fp32")
    assert found.logprob == pytest.approx(alone(model, Asked(ids, 10))[0], abs=1e-4)
    assert found.tokens == CONTEXT


def test_choices_of_one_token_cost_one_reading() -> None:
    asked = [Asked((1, 2, 3, letter), 3) for letter in (5, 6, 7, 8)]
    (row,) = rows_of(asked, make_model(VOCABULARY))
    assert row.length == 3


def test_choices_share_the_beginning_only_where_all_fit_into_the_context() -> None:
    model = make_model(VOCABULARY)
    begin = tuple(range(40))
    fitting = [Asked((*begin, *range(8)), 40) for _ in range(3)]  # 40 + 3 x 7 = 61
    too_many = [Asked((*begin, *range(8)), 40) for _ in range(4)]  # 68
    assert [row.length for row in rows_of(fitting, model)] == [61]
    assert [row.length for row in rows_of(too_many, model)] == [47] * 4


def test_a_branch_sees_the_beginning_and_itself() -> None:
    sheet = laid_out([Row((1, 2), ((0, (3, 4, 5)), (1, (6, 7))))], CONTEXT)
    assert sheet.ids[0, :5].tolist() == [1, 2, 3, 4, 6]
    assert sheet.places[0, :5].tolist() == [0, 1, 2, 3, 2]
    visible = seen(sheet, 0)[0, 0, :5, :5].int().tolist()
    assert visible == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    predicted = list(zip(sheet.columns.tolist(), sheet.targets.tolist(), strict=True))
    assert predicted == [(1, 3), (2, 4), (3, 5), (1, 6), (4, 7)]
    assert sheet.owners.tolist() == [0, 0, 0, 1, 1]


class Cut:
    """Cuts text at spaces; in a row of unknown characters sees one token, as sentencepiece does."""

    eos = 9

    def encode(self, text: str) -> list[int]:
        return [0] if text.strip("?") == "" else [1 + len(word) for word in text.split(" ")]


@pytest.mark.parametrize(
    ("prompt", "answer", "ids", "start"),
    [
        ("a bb", " ccc", (2, 3, 4), 2),
        ("a bb ", "ccc", (2, 3, 4), 2),
        ("", "a bb", (9, 2, 3), 1),
        ("??", "?", (9, 0), 1),
        ("a bb", "cc", (2, 5), 1),  # one token holds the end of the one and the other
    ],
)
def test_a_beginning_and_an_answer_hold_a_token_at_least(
    prompt: str, answer: str, ids: tuple[int, ...], start: int
) -> None:
    assert behind(Cut(), prompt, answer, {}) == (ids, start)  # type: ignore[arg-type]
