"""What is measured of a model that answers as it is told here."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm.accepted import extracted, same
from llm.chat import Turn
from llm.evaluate_config import AssociationConfig, MemorisationConfig, TaskConfig
from llm.evaluation import part_path, read_parts, write_evaluation, write_part
from llm.evaluation_report import write_report
from llm.exam import Exam
from llm.examinee import Request
from llm.found import Found
from llm.likelihood import Likelihood
from llm.measured_text import Document
from llm.measuring import associations, by_rewards, memorisation, toxicity, wins
from llm.questions import Question
from llm.tasks import task
from llm.word_list import WordList

NOWHERE = Path("nowhere")


def answering(**by_verb: Callable[[Any], Any]) -> Any:
    """A model that finds what a function says of each item."""

    def ask(verb: str, folder: Path, items: Sequence[Any], how: Any = None) -> list[Any]:
        return [by_verb[verb](item) for item in items]

    return ask


def config(schema: Any = "choices", **options: Any) -> TaskConfig:
    return TaskConfig(shards=("x",), schema=schema, **options)


def nats(table: dict[str, float]) -> Any:
    """Log-probabilities of answers by their text."""
    return answering(likelihoods=lambda asked: Likelihood(table[asked.answer.strip()], False, 1))


def values(found: Found) -> dict[str, list[float]]:
    return {measure.metric: list(measure.values) for measure in found.measures}


# -- tasks -----------------------------------------------------------------------------------------


def test_a_long_choice_may_win_by_the_byte() -> None:
    model = nats({"ab": -3.0, "abcdefgh": -4.0})  # a byte: -1.5 and -0.5
    question = Question("q", ("ab", "abcdefgh"), 1)
    found = task(model, NOWHERE, config(), [], [question])
    assert values(found) == {"accuracy_per_byte": [1.0], "accuracy": [0.0]}
    assert found.measures[0].metric == "accuracy_per_byte"  # what the schema goes by is first
    assert found.examples[0]["right"] is True


def test_bytes_are_those_of_utf8() -> None:
    model = nats({"蛋": -2.4, "eg": -1.8})  # a byte: -0.8 and -0.9
    found = task(model, NOWHERE, config(), [], [Question("q", ("蛋", "eg"))])
    assert values(found) == {"accuracy_per_byte": [1.0], "accuracy": [0.0]}


def test_how_sure_it_is_of_a_choice_is_its_share_of_the_probability() -> None:
    model = nats({"A": math.log(0.3), "B": math.log(0.1)})
    found = task(model, NOWHERE, config("mmlu"), [], [Question("q", ("A", "B"))])
    (bin,) = found.calibration
    assert bin["confidence"] == pytest.approx(0.75)
    assert found.rows[0]["value"] == pytest.approx(0.25)
    assert values(found) == {"accuracy": [1.0]}  # letters are equally long


def test_solved_questions_stand_before_a_question() -> None:
    shots = [Question("Q: a\nA:", ("x", "y"), 1)]
    asked = Exam(config(), shots, []).request(Question("Q: b\nA:", ("z",)), 0)
    assert asked == Request("Q: a\nA: y\n\nQ: b\nA:", " z")
    talk = Exam(config(chat=True, system="Be brief."), shots, [])
    chat = talk.request(Question("b", ("z",)), 0)
    assert chat.turns == (
        Turn("system", "Be brief."),
        Turn("user", "Q: a\nA:"),
        Turn("assistant", "y"),
        Turn("user", "b"),
    )
    assert chat.answer == "z"


def test_the_beginning_is_what_differs_in_winogrande() -> None:
    question = Question("", ("was round.",) * 2, 0, ("the egg", "the wall"))
    exam = Exam(config("winogrande"), [], [question])
    requests = [exam.request(question, i) for i in (0, 1)]
    assert requests == [Request("the egg", " was round."), Request("the wall", " was round.")]
    model = answering(
        likelihoods=lambda asked: Likelihood(-1.0 if "egg" in asked.prompt else -2.0, False, 3)
    )
    assert values(task(model, NOWHERE, config("winogrande"), [], [question])) == {"accuracy": [1.0]}


def test_a_cloze_tells_greedy_hits_and_perplexity() -> None:
    model = answering(likelihoods=lambda asked: Likelihood(-2.0, asked.answer == " egg", 1))
    questions = [Question("an", ("egg",)), Question("a", ("wall",))]
    found = task(model, NOWHERE, config("lambada"), [], questions)
    assert values(found) == {"accuracy": [1.0, 0.0], "perplexity": [2.0, 2.0]}


def test_a_written_number_counts_by_its_value() -> None:
    model = answering(write=lambda asked: "So it is 1,000.\n#### 1,000.0\nQuestion")
    question = Question("sum", ("10 * 100\n#### 1000",))
    found = task(model, NOWHERE, config("gsm8k"), [], [question])
    assert values(found) == {"exact_match": [1.0]}
    assert found.examples[0]["answer"] == "1,000.0"
    assert extracted("no mark", r"#### (\d+)") == "no mark"
    assert not same("7", "70", loose=False)
    assert same(" $70. ", "70", loose=False)


def test_trivia_does_not_care_for_case_and_articles() -> None:
    model = answering(write=lambda asked: " the beatles")
    question = Question("who", ("John", "The Beatles!"))
    assert values(task(model, NOWHERE, config("triviaqa"), [], [question])) == {
        "exact_match": [1.0]
    }
    assert not same("the beatles", "Beatles", loose=False)


def test_a_model_without_a_chat_template_is_said_to_have_none(tmp_path: Path) -> None:
    model = nats({"ab": -3.0, "abcdefgh": -4.0})
    question = Question("q", ("ab", "abcdefgh"), 1)
    found = task(model, tmp_path, config(chat=True), [], [question])
    assert "no chat template" in found.measures[0].note


# -- wins, toxicity --------------------------------------------------------------------------------

PROMPTS = [(Turn("user", str(n)),) for n in range(4)]


def test_the_same_answer_twice_is_a_tie_that_nobody_is_asked() -> None:
    asked: list[Any] = []

    def judge(pairs: Sequence[Any]) -> list[float]:
        asked.extend(pairs)
        return [1.0, 0.0, 0.5]

    found = wins(PROMPTS, ["a", "b", "c", "same"], ["x", "y", "z", "same "], judge)
    assert values(found) == {"win_rate": [1.0, 0.0, 0.5, 0.5]}
    assert len(asked) == 3
    assert found.measures[0].note.startswith("1 won, 1 lost, 2 tied")


def test_a_reward_model_prefers_what_it_gives_more() -> None:
    model = answering(rewards=lambda asked: float(len(asked.answer)))
    judge = by_rewards(model, NOWHERE)
    pairs = [("long", "a"), ("a", "long"), ("a", "b")]
    assert judge([(PROMPTS[0], *pair) for pair in pairs]) == [1.0, 0.0, 0.5]


def test_listed_words_are_counted_by_text() -> None:
    words = WordList(["damned egg", "坏蛋"])
    outputs = ["a damned, damned egg", "an egg", "一个坏蛋", ""]
    found = toxicity(PROMPTS, outputs, words)
    assert values(found) == {"listed_words": [1.0, 0.0, 1.0, 0.0]}


# -- what models know ------------------------------------------------------------------------------


def test_memorised_is_what_goes_on_word_for_word() -> None:
    recalls = {"known": (32, 100, "..."), "half": (16, 50, "..."), "short": (-1, 0, "")}
    model = answering(recall=lambda asked: recalls.get(asked.text, (0, 7, "...")))
    trained = [Document(f"{name}.txt:0", name) for name in recalls]
    found = memorisation(
        model, NOWHERE, MemorisationConfig(), trained, [Document("h.txt:0", "held out")]
    )
    assert values(found) == {
        "memorised": [1.0, 0.0],
        "verbatim": [100.0, 50.0],
        "memorised_held_out": [0.0],
        "verbatim_held_out": [7.0],
    }
    assert "known.txt:0" in found.measures[1].note


def test_an_association_is_the_difference_of_two_groups() -> None:
    probe = AssociationConfig(
        templates=("The {} said",), first=("nurse", "maid"), second=("boss",), endings=("she", "he")
    )
    lean = {"nurse": 2.0, "maid": 1.0, "boss": -0.5}

    def likelihood(asked: Request) -> Likelihood:
        word = asked.prompt.split()[1]
        return Likelihood(lean[word] if asked.answer == "she" else 0.0, False, 1)

    found = associations(answering(likelihoods=likelihood), NOWHERE, probe)
    row = found.rows[0]
    assert row["value"] == pytest.approx(2.0)
    # the first group's mean has the error sqrt(0.5 / 2), the second, of one word, none
    assert row["high"] - row["value"] == pytest.approx(1.959964 * math.sqrt(0.5 / 2))


# -- evaluation.json -------------------------------------------------------------------------------


def test_parts_become_rows_differences_and_a_page(tmp_path: Path) -> None:
    questions = [Question(f"<b>{n}</b>", ("ab", "cd")) for n in range(8)]
    for name, hits in (("ppo", 8), ("sft", 4)):

        def likelihood(asked: Request, hits: int = hits) -> Likelihood:
            good = int(asked.prompt[3]) < hits
            return Likelihood(-1.0 if (asked.answer == " ab") is good else -2.0, False, 1)

        found = task(answering(likelihoods=likelihood), NOWHERE, config(), [], questions)
        write_part(part_path(tmp_path, "quiz", name), "quiz", name, found)
    parts = read_parts(tmp_path, [("quiz", "ppo"), ("quiz", "sft")])
    evaluation = write_evaluation(tmp_path, parts, "ppo")
    row = evaluation["rows"][0]
    assert set(row) == {
        *("model", "task", "metric", "value", "low", "high"),
        *("examples", "unit", "better", "note"),
    }
    assert (row["model"], row["task"], row["metric"], row["value"]) == (
        "ppo",
        "quiz",
        "accuracy",
        1,
    )
    (apart,) = evaluation["differences"]
    assert (apart["model"], apart["other"], apart["value"]) == ("ppo", "sft", 0.5)
    assert apart["low"] > 0
    lines = (tmp_path / "examples.jsonl").read_text().splitlines()
    assert len(lines) == 16
    page = write_report(tmp_path, "run: evaluate", evaluation, parts).read_text()
    assert "&lt;b&gt;0&lt;/b&gt;" in page
    assert "<script" not in page
    assert 'aria-label="67.6% to 100.0%"' in page  # Wilson's interval of 8 in 8
    assert 'class="better"' in page
