"""Rankings: what each schema makes of rows, what is no comparison, and real human preferences."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm.align_config import PreferenceDataConfig
from llm.chat import Turn
from llm.conversations import question_of
from llm.errors import DataError
from llm.rankings import Ranking, read_rankings, strict_pairs
from llm.rows import row_units

HI = (Turn("user", "Hi"),)


def config(shards: str | Path, **options: Any) -> PreferenceDataConfig:
    return PreferenceDataConfig(shards=(str(shards),), **options)


def read(shards: str | Path, **options: Any) -> tuple[list[Ranking], Counter[str]]:
    """All rankings of some files, and why others were left out."""
    made, reasons = config(shards, **options), Counter[str]()
    found = [
        ranking
        for unit in row_units(made)
        for ranking in read_rankings(unit, made, lambda reason: reasons.update([reason]))
    ]
    return found, reasons


def of(tmp_path: Path, *rows: Any, **options: Any) -> tuple[list[Ranking], Counter[str]]:
    """What is made of some rows."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read(path, **options)


def one(tmp_path: Path, row: Any, **options: Any) -> Ranking:
    """What is made of a single row."""
    (ranking,), _ = of(tmp_path, row, **options)
    return ranking


def refusal(tmp_path: Path, row: Any, **options: Any) -> str:
    """What is said of a single row."""
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: ") as error:
        of(tmp_path, row, **options)
    return str(error.value)


# -- pairs -----------------------------------------------------------------------------------------

SAID = {"role": "user", "content": "Hi"}


def said(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"},
        {"prompt": [SAID], "chosen": said("Hello"), "rejected": said("Go")},
        {"prompt": [SAID], "chosen": [said("Hello")], "rejected": [said("Go")]},
        {"prompt": "Hi", "chosen": [SAID, said("Hello")], "rejected": [SAID, said("Go")]},
        {"chosen": [SAID, said("Hello")], "rejected": [SAID, said("Go")]},
    ],
)
def test_pairs_come_as_texts_messages_or_conversations(tmp_path: Path, row: Any) -> None:
    assert one(tmp_path, row) == Ranking(HI, ("Hello", "Go"), (1.0, 0.0))


def test_margin_and_system_prompt_are_kept(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go", "margin": 2, "system": "Talk."}
    ranking = one(tmp_path, row, system="Other.")
    assert ranking.prompt == (Turn("system", "Talk."), *HI)
    assert ranking.margin == 2.0


def test_what_is_no_comparison_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Hello"},
        {"prompt": "Hi", "chosen": "Hello", "rejected": " "},
        {"prompt": "Hi", "chosen": None, "rejected": "Go"},
        {"chosen": [SAID, said("Hello")], "rejected": [said("Go")]},
    ]
    assert of(tmp_path, *rows) == ([], {"tie": 1, "empty answer": 2, "different prompts": 1})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "Hi", "chosen": "Hello"}, "has nothing at 'rejected' for 'rejected' of schema"),
        ({"chosen": "Hello", "rejected": "Go"}, "has nothing at 'prompt'"),
        ({"prompt": "Hi", "chosen": SAID, "rejected": SAID}, "ends with a turn of the user in"),
        ({"prompt": "Hi", "chosen": [], "rejected": "Go"}, "ends with nothing in 'chosen'"),
        ({"prompt": [], "chosen": "Hello", "rejected": "Go"}, "has a prompt without messages"),
        ({"prompt": 1, "chosen": "Hello", "rejected": "Go"}, "has a number at 'prompt'"),
        (
            {"prompt": "Hi", "chosen": "Hello", "rejected": "Go", "margin": -1},
            "has the margin -1.0; the better answer is better by 0 or more",
        ),
        (
            {"prompt": "Hi", "chosen": "Hello", "rejected": "Go", "margin": True},
            "has True at 'margin'; expected a number",
        ),
    ],
)
def test_pairs_that_do_not_fit_are_refused(tmp_path: Path, row: Any, words: str) -> None:
    assert words in refusal(tmp_path, row)


# -- transcripts -----------------------------------------------------------------------------------


def test_a_transcript_ends_with_the_answer(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Tell\nme\n\nAssistant:"
    row = {"chosen": start + " A\n\nb", "rejected": start + " C"}
    prompt = (Turn("user", "Hi"), Turn("assistant", "Yes?"), Turn("user", "Tell\nme"))
    assert one(tmp_path, row, schema="transcripts") == Ranking(prompt, ("A\n\nb", "C"), (1.0, 0.0))


def test_what_one_speaker_says_in_two_turns_is_one(tmp_path: Path) -> None:
    row = {
        "chosen": "Human: Hi\n\nAssistant: A\n\nAssistant: B",
        "rejected": "Human: Hi\n\nAssistant: C Human: no turn",
    }
    ranking = one(tmp_path, row, schema="transcripts")
    assert ranking == Ranking(HI, ("A\n\nB", "C Human: no turn"), (1.0, 0.0))


def test_transcripts_of_different_talks_are_left_out(tmp_path: Path) -> None:
    row = {"chosen": "Human: Hi\n\nAssistant: A", "rejected": "Human: Ho\n\nAssistant: B"}
    assert of(tmp_path, row, schema="transcripts") == ([], {"different prompts": 1})


def test_a_text_without_turns_is_refused(tmp_path: Path) -> None:
    row = {"chosen": "Hello", "rejected": "Human: Hi\n\nAssistant: A"}
    assert "has no turns at 'chosen'" in refusal(tmp_path, row, schema="transcripts")


# -- more than two ---------------------------------------------------------------------------------


def test_a_ranking_without_ranks_is_from_best_to_worst(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "answers": ["a", "b", "c"]}
    ranking = one(tmp_path, row, schema="ranking")
    assert strict_pairs(ranking) == [(0, 1), (0, 2), (1, 2)]


def test_equal_ranks_tie_and_blank_answers_go(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "answers": ["a", "b", "", "c"], "ranks": [2, 1, 1, 2]}
    ranking = one(tmp_path, row, schema="ranking")
    assert ranking == Ranking(HI, ("a", "b", "c"), (-2.0, -1.0, -2.0))
    assert strict_pairs(ranking) == [(1, 0), (1, 2)]


def test_ranks_are_as_many_as_answers(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "answers": ["a", "b"], "ranks": [1]}
    assert "has 1 ranks for 2 answers" in refusal(tmp_path, row, schema="ranking")


def test_ratings_of_one_prompt_are_one_ranking(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Hi", "answer": "a", "rating": 4.5},
        {"prompt": "Hi", "answer": "b", "rating": 1},
        {"prompt": "Hi", "answer": "c", "rating": 4.5},
        {"prompt": "Ho", "answer": "d", "rating": 3},
    ]
    found, reasons = of(tmp_path, *rows, schema="ratings")
    assert found == [Ranking(HI, ("a", "b", "c"), (4.5, 1.0, 4.5))]
    assert reasons == {"tie": 1}


def test_no_ratings_are_torn_apart_between_units(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{i // 100}", "answer": "x" * 999 + f"{i}", "rating": i} for i in range(900)
    ]
    found, _ = of(tmp_path, *rows, schema="ratings")
    assert [len(ranking.answers) for ranking in found] == [100] * 9


@pytest.mark.parametrize(("preference", "scores"), [(1, (1.0, 0.0)), (2.0, (0.0, 1.0))])
def test_a_choice_names_the_better_answer(tmp_path: Path, preference: Any, scores: Any) -> None:
    row = {"prompt": "Hi", "first": "a", "second": "b", "preference": preference}
    assert one(tmp_path, row, schema="choice") == Ranking(HI, ("a", "b"), scores)


@pytest.mark.parametrize("preference", [0, None, 1.5])
def test_any_other_choice_is_a_tie(tmp_path: Path, preference: Any) -> None:
    row = {"prompt": "Hi", "first": "a", "second": "b", "preference": preference}
    assert of(tmp_path, row, schema="choice") == ([], {"tie": 1})


# -- real files ------------------------------------------------------------------------------------

REAL: dict[str, tuple[dict[str, Any], int, dict[str, int]]] = {
    "hh_harmless_dev.jsonl.gz": ({"schema": "transcripts"}, 1648, {"empty answer": 2}),
    "dpo_en_demo.json": ({"columns": {"prompt": "conversations"}}, 300, {}),
    "dpo_zh_demo.json": ({"columns": {"prompt": "conversations"}}, 300, {}),
    "medical_reward_zh_100.jsonl": (
        {
            "columns": {
                "prompt": "question",
                "chosen": "response_chosen",
                "rejected": "response_rejected",
            }
        },
        100,
        {},
    ),
    "stack_exchange_paired_tiny.json": (
        {"columns": {"prompt": "question", "chosen": "response_j", "rejected": "response_k"}},
        25,
        {},
    ),
    "alpaca_eval_pairs_dev.jsonl.gz": (
        {
            "schema": "choice",
            "columns": {"prompt": "instruction", "first": "output_1", "second": "output_2"},
        },
        470,
        {"tie": 3},
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_by_a_declared_mapping(shared_data: Path, name: str) -> None:
    options, count, reasons = REAL[name]
    found, left_out = read(shared_data / "d_pref" / name, **options)
    assert (len(found), left_out) == (count, reasons)
    assert all(question_of(ranking.prompt) for ranking in found)


def test_every_real_file_is_in_the_list(shared_data: Path) -> None:
    assert {path.name for path in (shared_data / "d_pref").iterdir()} == set(REAL)


def test_turns_of_real_transcripts_alternate(shared_data: Path) -> None:
    found, _ = read(shared_data / "d_pref" / "hh_harmless_dev.jsonl.gz", schema="transcripts")
    for ranking in found:
        roles = [turn.role for turn in ranking.prompt]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
