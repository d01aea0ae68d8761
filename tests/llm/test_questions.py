"""Rows of well-known sets become questions in the words of lm-eval, or errors with their line."""

import json
from pathlib import Path
from typing import Any

import pytest

from llm.chat import Turn
from llm.errors import DataError
from llm.evaluate_config import PromptsConfig, TaskConfig
from llm.questions import Question, prompts_in, questions_in, way_of


def read(folder: Path, schema: Any, *rows: dict[str, Any], **options: Any) -> list[Question]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return questions_in(TaskConfig(shards=(str(path),), schema=schema, **options))[1]


def test_hellaswag_is_cleaned_as_lm_eval_does(tmp_path: Path) -> None:
    row = {
        "activity_label": "Removing ice",
        "ctx_a": "[header] How to scrape [title] Take a tool.",
        "ctx_b": "then the man",
        "endings": ["scrapes [step] it.", "sings."],
        "label": "0",
    }
    (found,) = read(tmp_path, "hellaswag", row)
    assert found.prompt == "Removing ice: How to scrape. Take a tool. Then the man"
    assert found.choices == ("scrapes it.", "sings.")
    assert found.right == 0


def test_arc_takes_letters_and_numbers_for_labels(tmp_path: Path) -> None:
    rows = [
        {
            "question": " What falls? ",
            "choices": {"text": ["egg", "wall", "king"], "label": labels},
            "answerKey": key,
        }
        for labels, key in ((["A", "B", "C"], "B"), (["1", "2", "3"], "3"))
    ]
    found = read(tmp_path, "arc", *rows)
    assert [one.right for one in found] == [1, 2]
    assert found[0].prompt == "Question: What falls?\nAnswer:"
    assert found[0].answer == "wall"


def test_piqa_and_mosaics_form_of_it_ask_alike(tmp_path: Path) -> None:
    theirs = {"goal": "dresser", "sol1": "a", "sol2": "b", "label": 1}
    mosaics = {"query": "Question: dresser\n", "choices": ["a", "b"], "gold": 1}
    one, other = read(tmp_path, "piqa", theirs, mosaics)
    assert one == other == Question("Question: dresser\nAnswer:", ("a", "b"), 1)


def test_winogrande_puts_either_option_before_the_same_rest(tmp_path: Path) -> None:
    row = {
        "sentence": "The egg fell off the wall as the _ was round.",
        "option1": "egg",
        "option2": "wall",
        "answer": "1",
    }
    mosaics = {
        "context_options": [
            "The egg fell off the wall as the egg",
            "The egg fell off the wall as the wall",
        ],
        "continuation": "was round.",
        "gold": 0,
    }
    one, other = read(tmp_path, "winogrande", row, mosaics)
    assert one == other
    assert one.before(1) == "The egg fell off the wall as the wall"
    assert one.choices == ("was round.", "was round.")


def test_exams_show_letters_and_ask_for_one(tmp_path: Path) -> None:
    row = {"question": "谁？", "A": "国王", "B": "马", "C": "墙", "D": "蛋", "answer": "D"}
    (found,) = read(tmp_path, "cmmlu", row)
    assert found.prompt == "谁？\nA. 国王\nB. 马\nC. 墙\nD. 蛋\n答案："
    assert (found.choices, found.answer) == (("A", "B", "C", "D"), "D")
    row = {"question": "Who?", "choices": ["king", "egg"], "answer": 1}
    (found,) = read(tmp_path, "mmlu", row)
    assert found.prompt == "Who?\nA. king\nB. egg\nAnswer:"
    assert found.answer == "B"


def test_lambada_asks_for_the_last_word(tmp_path: Path) -> None:
    (found,) = read(tmp_path, "lambada", {"text": "all the king's men"})
    assert (found.prompt, found.answer) == ("all the king's", "men")


def test_answers_may_have_several_names(tmp_path: Path) -> None:
    flat = {"context": "Q:", "answer": "Scorpio", "aliases": ["Skorpio", "Scorpio"]}
    nested = {"question": "who", "answer": {"value": "Scorpio", "aliases": ["Skorpio"]}}
    found = read(tmp_path, "triviaqa", flat, nested)
    assert [one.choices for one in found] == [("Scorpio", "Skorpio")] * 2
    assert found[1].prompt == "Question: who\nAnswer:"


def test_pairs_are_read_as_for_a_reward_model(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "hi"}], "chosen": "good", "rejected": "bad"}
    (found,) = read(tmp_path, "pairs", row)
    assert found == Question("hi", ("good", "bad"), turns=(Turn("user", "hi"),))


def test_a_template_says_where_everything_is(tmp_path: Path) -> None:
    row = {"q": {"text": "Who fell?"}, "options": ["king", "egg"], "key": "B", "n": 3}
    asked = {"prompt": "{n}. {q.text}\nA:", "choices": ("options",), "answer": "key"}
    (found,) = read(tmp_path, "template", row, **asked)
    assert found == Question("3. Who fell?\nA:", ("king", "egg"), 1)
    asked["choices"] = ("the {options.0}", "the {options.1}")
    (found,) = read(tmp_path, "template", row, **asked)
    assert found.answer == "the egg"
    config = TaskConfig(shards=("x",), schema="template", prompt="{q.text}", answer="{key}")
    assert way_of(config) == "cloze"


def test_shots_are_the_first_rows_and_are_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = ({"context": f"{n} +", "continuation": str(n)} for n in range(6))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = TaskConfig(shards=(str(path),), schema="cloze", shots=2, limit=3)
    shots, questions = questions_in(config)
    assert [one.answer for one in shots] == ["0", "1"]
    assert [one.answer for one in questions] == ["2", "3", "4"]
    other = TaskConfig(shards=config.shards, schema="cloze", shots=1, shots_from=config.shards)
    shots, questions = questions_in(other)
    assert (len(shots), len(questions)) == (1, 6)


@pytest.mark.parametrize(
    ("schema", "row", "complaint"),
    [
        ("choices", {"query": "a", "gold": 0}, "has nothing at 'choices' for 'choices' of schema"),
        ("choices", {"query": "a", "choices": ["b"], "gold": 2}, "has 2 at 'gold', but 1 choices"),
        ("choices", {"query": "a", "choices": ["b"], "gold": "no"}, "'no' at 'gold'; expected"),
        ("choices", {"query": "a", "choices": [], "gold": 0}, "has an empty list at 'choices'"),
        (
            "choices",
            {"query": 1, "choices": ["b"], "gold": 0},
            "a number at 'query'; expected",
        ),
        (
            "arc",
            {"question": "a", "choices": ["b"]},
            "expected an object with lists text",
        ),
        ("winogrande", {"sentence": "a b"}, "has no _ at 'sentence'"),
        ("lambada", {"text": "word"}, "has one word at 'text'"),
        ("hellaswag", {"endings": ["a"], "label": 0}, "nothing at 'ctx' for 'ctx' of schema hella"),
        ("template", {"b": "x"}, "has nothing at 'a'; its keys are b"),
    ],
)
def test_what_is_not_as_expected_is_told_with_its_line(
    tmp_path: Path, schema: str, row: dict[str, Any], complaint: str
) -> None:
    options = {"prompt": "{a}", "answer": "{a}"} if schema == "template" else {}
    with pytest.raises(DataError) as error:
        read(tmp_path, schema, row, **options)
    assert "rows.jsonl, line 1: " in str(error.value)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("file", "schema", "count"),
    [
        ("e_eval/arc_easy.jsonl.gz", "arc", 2376),
        ("e_eval/blimp_dev.jsonl.gz", "blimp", 23000),
        ("e_eval/cmmlu_dev.jsonl", "cmmlu", 335),
        ("e_eval/copa.jsonl", "choices", 100),
        ("e_eval/hellaswag_small.jsonl", "hellaswag", 4),
        ("e_eval/lambada_openai.jsonl.gz", "lambada", 5153),
        ("e_eval/mmlu_small.jsonl", "mmlu", 4),
        ("e_eval/piqa.jsonl.gz", "piqa", 1838),
        ("e_eval/simple_arithmetic_nospaces.jsonl", "cloze", 1000),
        ("e_eval/triviaqa_small.jsonl", "triviaqa", 32),
        ("e_eval/winograd_wsc.jsonl", "winogrande", 273),
        ("c_sft/gsm8k_train.jsonl.gz", "gsm8k", 7473),
        ("d_pref/hh_harmless_dev.jsonl.gz", "transcripts", 1650),
        ("d_pref/dpo_zh_demo.json", "pairs", 300),
    ],
)
def test_real_sets_are_read_whole(shared_data: Path, file: str, schema: Any, count: int) -> None:
    columns = {"prompt": "conversations"} if "dpo" in file else {}
    config = TaskConfig(shards=(str(shared_data / file),), schema=schema, columns=columns)
    _, questions = questions_in(config)
    assert len(questions) == count
    assert all(one.choices and 0 <= one.right < len(one.choices) for one in questions)


def test_prompts_are_found_under_their_usual_names(tmp_path: Path, shared_data: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "a"}, {"question": "b", "system": "Be brief."}, {"turns": ["c", "d"]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = prompts_in(PromptsConfig(shards=(str(path),)))
    assert found == [
        (Turn("user", "a"),),
        (Turn("system", "Be brief."), Turn("user", "b")),
        (Turn("user", "c"),),
    ]
    vicuna = shared_data / "e_eval" / "vicuna_80_questions.jsonl"
    assert len(prompts_in(PromptsConfig(shards=(str(vicuna),), limit=100))) == 80
