"""The same figures as others find with the exported folder: transformers' logits, and lm-eval.

lm-eval runs where HUMPTY_LM_EVAL names a Python whose environment has it:
pip install "lm-eval==0.4.12" "transformers>=5,<6" accelerate torch
"""

import json
import math
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from llm.artifact import read_model, write_model
from llm.evaluate_config import MeasuredTextConfig, TaskConfig
from llm.examinee import Desk
from llm.exchange_config import ExportConfig
from llm.found import Found
from llm.hf_export import export_model
from llm.intervals import row
from llm.measured_text import measured_documents
from llm.measuring import text
from llm.questions import questions_in
from llm.tasks import task
from tests.deploy.tiny import TEXTS, write_folder

CONTEXT = 64

TASKS = {
    "humpty_choice": """
output_type: multiple_choice
fewshot_split: shots
num_fewshot: 2
fewshot_config: {{sampler: first_n}}
doc_to_text: "{{{{query}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_bytes}}]
""",
    "humpty_cloze": """
output_type: loglikelihood
doc_to_text: "{{{{query}}}}"
doc_to_target: "{{{{' ' + choices[0]}}}}"
metric_list: [{{metric: acc}}, {{metric: perplexity}}]
""",
    "humpty_text": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}]
""",
    "humpty_write": """
output_type: generate_until
doc_to_text: "{{{{query}}}}"
doc_to_target: "{{{{choices[0]}}}}"
generation_kwargs: {{until: ["e"], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: exact_match}}]
""",
}

HEAD = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl, shots: {folder}/shots.jsonl}}}}
test_split: test
"""


def write_rows(folder: Path) -> None:
    """Questions of which some, with their shots, are longer than the context."""
    draw = random.Random(4)
    words = " ".join(TEXTS).split()

    def made(most: int) -> dict[str, Any]:
        return {
            "query": " ".join(draw.choices(words, k=draw.randint(1, most))),
            "choices": [" ".join(draw.choices(words, k=draw.randint(1, 4))) for _ in range(3)],
            "gold": draw.randrange(3),
            "text": " ".join(draw.choices(words, k=draw.randint(1, 90))),
        }

    for name, count, most in (("rows", 24, 70), ("shots", 2, 6)):
        lines = (json.dumps(made(most), ensure_ascii=False) + "\n" for _ in range(count))
        (folder / f"{name}.jsonl").write_text("".join(lines))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, the same exported, and questions."""
    made = tmp_path_factory.mktemp("lm_eval")
    write_folder(made / "model", chat=False, context=CONTEXT)
    text_alone(made / "model")
    export_model(made / "model", made / "exported", ExportConfig())
    write_rows(made)
    return made


def text_alone(folder: Path) -> None:
    """Let the model write text alone: of broken characters everybody makes something else, and
    control tokens, which we forbid, lm-eval lets be written."""
    model, tokenizer = read_model(folder)
    with torch.no_grad():
        model.head_weight[[i for i, piece in enumerate(tokenizer.plain_pieces()) if not piece]] = 0
    write_model(folder, model)


def ours(place: Path, name: str) -> Found:
    """What we find for a task."""
    rows, ask = (str(place / "rows.jsonl"),), Desk().ask
    if name == "humpty_text":
        documents = measured_documents(MeasuredTextConfig(shards=rows, bytes=10**6))
        assert len(documents) == 24
        return text(ask, place / "model", documents)
    if name == "humpty_choice":
        shots = (str(place / "shots.jsonl"),)
        config = TaskConfig(shards=rows, schema="choices", shots=2, shots_from=shots)
    elif name == "humpty_cloze":
        columns = {"context": "query", "continuation": "choices.0"}
        config = TaskConfig(shards=rows, schema="cloze", columns=columns)
    else:
        config = TaskConfig(
            shards=rows,
            schema="template",
            prompt="{query}",
            answer="{choices.0}",
            measure="write",
            answer_tokens=8,
            stop=("e",),
        )
    return task(ask, place / "model", config, *questions_in(config))


def figures(found: Found) -> dict[str, float]:
    """By metric."""
    return {measure.metric: row(measure)["value"] for measure in found.measures}


# -- transformers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peer(place: Path) -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(place / "exported")
    return model.eval(), transformers.AutoTokenizer.from_pretrained(place / "exported")


def logprob(peer: tuple[Any, Any], ids: list[int], start: int) -> float:
    """Of ids[start:], as far as the context reaches."""
    ids, start = ids[-CONTEXT - 1 :], start - max(0, len(ids) - CONTEXT - 1)
    with torch.no_grad():
        logprobs = peer[0](torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
    return sum(float(logprobs[at - 1, ids[at]]) for at in range(start, len(ids)))


def test_choices_are_as_likely_as_transformers_finds_them(
    place: Path, peer: tuple[Any, Any]
) -> None:
    rows = [json.loads(line) for line in (place / "rows.jsonl").read_text().splitlines()]
    shots = [json.loads(line) for line in (place / "shots.jsonl").read_text().splitlines()]
    solved = "".join(f"{one['query']} {one['choices'][one['gold']]}\n\n" for one in shots)
    found = ours(place, "humpty_choice")
    cut = right = 0
    for one, example in zip(rows, found.examples, strict=True):
        begin = peer[1](solved + one["query"])["input_ids"]
        whole = [peer[1](f"{solved}{one['query']} {c}")["input_ids"] for c in one["choices"]]
        scores = [logprob(peer, ids, len(begin)) for ids in whole]
        assert example["logprobs"] == pytest.approx(scores, abs=1e-3)
        cut += len(whole[0]) > CONTEXT + 1
        right += scores.index(max(scores)) == one["gold"]
    assert 0 < cut < len(rows)
    assert figures(found)["accuracy"] == right / len(rows)


def test_bits_per_byte_are_those_of_transformers(place: Path, peer: tuple[Any, Any]) -> None:
    rows = [json.loads(line)["text"] for line in (place / "rows.jsonl").read_text().splitlines()]
    end = peer[1].eos_token_id
    nats = 0.0
    for one in rows:
        ids = [end, *peer[1](one)["input_ids"]]
        for first in range(1, len(ids), CONTEXT):
            last = min(first + CONTEXT, len(ids))
            begin = max(0, last - CONTEXT - 1)
            nats -= logprob(peer, ids[begin:last], first - begin)
    size = sum(len(one.encode()) for one in rows)
    expected = nats / math.log(2) / size
    assert figures(ours(place, "humpty_text"))["bits_per_byte"] == pytest.approx(expected, abs=1e-4)


# -- lm-eval ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(place: Path) -> Iterator[dict[str, Any]]:
    """What lm-eval finds, by task."""
    python = os.environ.get("HUMPTY_LM_EVAL")
    if not python:
        pytest.skip("HUMPTY_LM_EVAL names no Python with lm-eval 0.4.12")
    for name, told in TASKS.items():
        (place / f"{name}.yaml").write_text((HEAD + told).format(name=name, folder=place))
    end = json.loads((place / "exported" / "config.json").read_text())["eos_token_id"]
    arguments = f"pretrained={place / 'exported'},dtype=float32,prefix_token_id={end}"
    command = [python, "-m", "lm_eval", "--model", "hf", "--device", "cpu", "--batch_size", "4"]
    command += ["--model_args", arguments, "--tasks", ",".join(TASKS), "--log_samples"]
    command += ["--include_path", str(place), "--output_path", str(place / "out")]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(place / "cache")}
    run = subprocess.run(
        command, env=os.environ | offline, capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (path,) = (place / "out").rglob("results_*.json")
    yield json.loads(path.read_text())["results"]


AGREE = [
    ("humpty_choice", "accuracy", "acc,none"),
    ("humpty_choice", "accuracy_per_byte", "acc_bytes,none"),
    ("humpty_cloze", "accuracy", "acc,none"),
    ("humpty_cloze", "perplexity", "perplexity,none"),
    ("humpty_text", "bits_per_byte", "bits_per_byte,none"),
    ("humpty_write", "exact_match", "exact_match,none"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "metric", "called"), AGREE)
def test_lm_eval_finds_the_same(
    place: Path, theirs: dict[str, Any], name: str, metric: str, called: str
) -> None:
    assert figures(ours(place, name))[metric] == pytest.approx(theirs[name][called], rel=1e-3)


@pytest.mark.slow
def test_lm_eval_finds_the_same_of_every_choice(place: Path, theirs: dict[str, Any]) -> None:
    (path,) = (place / "out").rglob("samples_humpty_choice_*.jsonl")
    samples = sorted(map(json.loads, path.read_text().splitlines()), key=lambda one: one["doc_id"])
    examples = ours(place, "humpty_choice").examples
    for sample, example in zip(samples, examples, strict=True):
        told = [float(one[0][0]) for one in sample["resps"]]
        assert example["logprobs"] == pytest.approx(told, abs=1e-3)
    (path,) = (place / "out").rglob("samples_humpty_write_*.jsonl")
    samples = sorted(map(json.loads, path.read_text().splitlines()), key=lambda one: one["doc_id"])
    written = [one["output"] for one in ours(place, "humpty_write").examples]
    assert written == [one["resps"][0][0] for one in samples]
    assert len(set(written)) > 5
