"""README.md of an exported model, as Hugging Face's own library reads it."""

from typing import Any

import pytest

from llm.config import ModelConfig
from llm.model_card import Step, model_card
from tests.made_runs import EVALUATION

hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub (extra: test)")

MODEL = ModelConfig(depth=2, width=64, heads=2, kv_heads=2, context=128)

CORPUS = Step(
    "corpus",
    "corpus",
    "f00",
    {
        "sources": {
            "web": {"shards": ["https://huggingface.co/datasets/me/my-set/resolve/main/a.parquet"]},
            "two": {"shards": ["hf://datasets/me/other/*.jsonl"]},
        },
        "filter": {"language": {"keep": ["en", "zh"]}},
    },
    {"documents": 100, "kept": 90},
    {"sources": "d" * 64},
)
PRETRAIN = Step("pretrain", "pretrain", "f01", {}, {"tokens": 1_000_000, "bpb": 2.0}, {})


def ppo(rows: Any = ()) -> Step:
    return Step("ppo", "ppo", "f02", {}, {"reward": 0.9}, {"examples": ["e" * 64]}, tuple(rows))


def card_of(*lineage: Step, license: str = "apache-2.0", judge: bool = False) -> Any:
    kind = "LlamaForSequenceClassification" if judge else "LlamaForCausalLM"
    return hub.ModelCard(model_card(MODEL, kind, "fp32", True, lineage, license))


ROWS = [row for row in EVALUATION["rows"] if row["model"] == "ppo"]


def test_hugging_face_reads_its_fields() -> None:
    data = card_of(CORPUS, PRETRAIN, ppo(ROWS)).data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-generation"
    assert data.license == "apache-2.0"
    assert data.language == ["en", "zh"]
    assert data.datasets == ["me/my-set", "me/other"]
    assert data.tags == ["text-generation", "conversational"]


def test_what_was_measured_comes_back_as_it_was_written() -> None:
    card = card_of(CORPUS, PRETRAIN, ppo(ROWS))
    found = [
        (one.dataset_name, one.metric_type, one.metric_value) for one in card.data.eval_results
    ]
    assert found == [("hellaswag", "accuracy", 0.5), ("python", "bpb", 2.2)]
    index = hub.repocard_data.eval_results_to_model_index("ppo", card.data.eval_results)
    assert index == card.data.to_dict()["model-index"]
    name, again = hub.repocard_data.model_index_to_eval_results(index)
    assert name == "ppo" and again == card.data.eval_results


def test_what_is_not_known_is_left_out() -> None:
    data = card_of(PRETRAIN, license="").data.to_dict()
    assert data.keys() == {"library_name", "pipeline_tag", "tags"}


def test_rows_of_other_forms_are_left_out() -> None:
    rows = [{"model": "ppo"}, {**ROWS[0], "value": float("nan")}, 7]
    assert card_of(ppo(rows)).data.eval_results is None


def test_sections_tell_use_limits_data_evaluation_and_lineage() -> None:
    text = card_of(CORPUS, PRETRAIN, ppo(ROWS)).text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Intended use",
        "## Limits",
        "## Training data",
        "## Evaluation",
        "## How it was made",
    ]
    assert "- corpus: 90 of 100 documents kept, of web, two" in text
    assert f"| ppo | examples | `{'e' * 12}` |" in text
    assert "| hellaswag | accuracy | 50.0% | 40.0% to 60.0% | 100 |" in text
    assert "| python | bpb | 2.2 |  | 50 |" in text
    assert "| pretrain | pretrain | `f01` |" in text


def test_a_reward_model_is_described_as_a_judge() -> None:
    card = card_of(ppo(), judge=True)
    assert card.data.pipeline_tag == "text-classification" and card.data.tags == ["reward-model"]
    assert "which of two answers people would prefer" in card.text


def test_names_of_tasks_stay_text() -> None:
    text = card_of(ppo([{**ROWS[0], "task": "<img> | [x](y)\n---"}])).text
    assert "<img>" not in text and "[x](y)" not in text
