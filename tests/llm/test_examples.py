"""From conversations to rows of tokens: what is cut is cut where it hurts least."""

from pathlib import Path

import numpy as np
import pytest

from llm.chat import Template, Turn
from llm.config import TokenizerConfig
from llm.errors import ArtifactError
from llm.examples import (
    COMPARISON,
    PROMPT,
    Comparisons,
    Prompts,
    chat_row,
    comparison_row,
    prompt_row,
    rows_in,
    shortened,
)
from llm.ragged import Ragged, write_rows
from llm.rankings import Ranking
from llm.tokenizer import Tokenizer
from llm.tokenizer_trainer import train

QUESTION = Turn("user", "what is a list")
ANSWER = Turn("assistant", "a thing with things in it")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    path = tmp_path_factory.mktemp("examples") / "tokenizer.model"
    config = TokenizerConfig(model="char", vocab_size="auto", byte_fallback=False)
    train([QUESTION.text, ANSWER.text, "a b c d e f g h i j"], config, path, seed=0)
    return Template(Tokenizer(path))


def test_a_conversation_loses_its_end(template: Template) -> None:
    whole = chat_row((QUESTION, ANSWER), template, 100, drop=False)
    cut = chat_row((QUESTION, ANSWER), template, 30, drop=False)
    assert whole.row and cut.row
    assert (whole.cut, cut.cut) == (False, True)
    assert cut.row["ids"].tolist() == whole.row["ids"].tolist()[:31]


def test_a_conversation_whose_answer_is_cut_off_teaches_nothing(template: Template) -> None:
    assert chat_row((QUESTION, ANSWER), template, 10, drop=False) == (None, True)


def test_too_long_ones_are_left_out_if_asked(template: Template) -> None:
    ranking = Ranking((QUESTION,), ("a", "b"), (1.0, 0.0))
    assert chat_row((QUESTION, ANSWER), template, 30, drop=True) == (None, True)
    assert comparison_row(ranking, template, 19, drop=True) == (None, True)
    assert comparison_row(ranking, template, 20, drop=True).row is not None


def test_a_long_prompt_loses_its_oldest_tokens_but_the_first() -> None:
    assert shortened([1, 2, 3, 4, 5], 3) == [1, 4, 5]
    assert shortened([1, 2, 3], 3) == [1, 2, 3]


def test_answers_of_a_comparison_stand_behind_the_same_prompt(
    template: Template, tmp_path: Path
) -> None:
    ranking = Ranking((QUESTION,), ("a thing", "in it", "a list"), (2.0, 1.0, 1.0), 0.5)
    write_rows(tmp_path / "a", COMPARISON, [comparison_row(ranking, template, 64, False).row])
    comparison = Comparisons(Ragged([tmp_path / "a"]))[0]
    prompt = template.prompt((QUESTION,))
    assert comparison.prompt == len(prompt)
    assert [one.tolist() for one in comparison.sequences] == [
        prompt + template.answer(text) for text in ranking.answers
    ]
    assert comparison.scores.tolist() == [2.0, 1.0, 1.0]
    assert comparison.margin == 0.5


def test_a_long_answer_leaves_a_fourth_of_the_context_to_the_prompt(template: Template) -> None:
    ranking = Ranking((QUESTION,), ("a" * 50, "b"), (1.0, 0.0))
    made = comparison_row(ranking, template, 40, False)
    assert made.row and made.cut
    assert made.row["prompt"].tolist() == [10]
    assert made.row["lengths"].tolist() == [40, 12]
    assert np.isnan(made.row["margin"][0])


def test_a_prompt_is_what_precedes_the_last_answer(template: Template, tmp_path: Path) -> None:
    row = prompt_row((QUESTION, ANSWER), template, 64).row
    write_rows(tmp_path / "a", PROMPT, [row])
    prompt = Prompts(Ragged([tmp_path / "a"]))[0]
    assert prompt.ids.tolist() == template.prompt((QUESTION,))
    assert (prompt.question, prompt.reference) == (QUESTION.text, ANSWER.text)
    assert prompt_row((QUESTION,), template, 64).row is not None
    assert prompt_row((Turn("assistant", "hello"),), template, 64).row is None


def test_examples_without_an_index_are_unfinished(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"index\.json: cannot be read"):
        rows_in(tmp_path, "train")
