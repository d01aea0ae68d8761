"""Questions a second: ours against lm-eval with transformers, on the same model and questions.

Four choices of a few words behind a sentence, without and with five solved questions before it; the
texts are those of Python's documentation, the model has random weights (that costs the same). Both
run on one thread and in fp32; lm-eval's batches are the best of 8 and 64. Time is from questions
in memory to figures, for lm-eval with its reading of a file of them.

lm-eval needs a venv of its own, whose Python HUMPTY_LM_EVAL names: see tests/llm/test_lm_eval.py.
"""

import json
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from llm.artifact import write_model, write_shape
from llm.config import ModelConfig, TokenizerConfig
from llm.evaluate_config import TaskConfig
from llm.examinee import Desk
from llm.exchange_config import ExportConfig
from llm.hf_export import export_model
from llm.intervals import row
from llm.model import Transformer
from llm.pydoc_pairs import pydoc_entries
from llm.questions import questions_in
from llm.tasks import task
from llm.tokenizer import Tokenizer
from llm.tokenizer_trainer import train

COUNT = int(os.environ.get("HUMPTY_QUESTIONS", 400))
SHAPE = {"depth": 4, "width": 256, "heads": 4, "hidden": 704, "context": 512}
BATCHES = (8, 64)

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl, shots: {folder}/shots.jsonl}}}}
test_split: test
fewshot_split: shots
num_fewshot: {shots}
fewshot_config: {{sampler: first_n}}
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list: [{{metric: acc}}, {{metric: acc_bytes}}]
"""


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    table = Table(title=f"{COUNT} questions of four choices, 4M parameters, one thread, fp32")
    for name in ("solved before", "who", "questions/s", "accuracy", "per byte"):
        table.add_column(name, justify="left" if name == "who" else "right")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepare(folder)
        for shots in (0, 5):
            for who, seconds, figures in (ours(folder, shots), *theirs(folder, shots)):
                accuracies = [f"{one:.4f}" for one in figures]
                table.add_row(str(shots), who, f"{COUNT / seconds:.1f}", *accuracies)
    Console().print(table)


def prepare(folder: Path) -> None:
    """A model, the same exported, and questions."""
    entries = [one for one in pydoc_entries() if len(one.answer.split()) > 6]
    texts = [f"{one.question}\n{one.answer}" for one in entries]
    trained = folder / "trained.model"
    train(texts, TokenizerConfig(vocab_size=4096, byte_fallback=True), trained, seed=0)
    tokenizer = Tokenizer(trained)
    torch.manual_seed(0)
    config = ModelConfig(**SHAPE)  # type: ignore[arg-type]
    model = folder / "model"
    model.mkdir()
    write_shape(model, config, trained, tokenizer.vocab_size)
    write_model(model, Transformer(config, tokenizer.vocab_size))
    export_model(model, folder / "exported", ExportConfig())
    draw = random.Random(1)
    rows = [question(draw, entries) for _ in range(COUNT + 5)]
    for name, part in (("rows", rows[5:]), ("shots", rows[:5])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in part))


def question(draw: random.Random, entries: list[Any]) -> dict[str, Any]:
    """The beginning of an answer, and four ends of which one is its own."""
    asked, *others = draw.sample(entries, 4)
    words = asked.answer.split()
    ends = [" ".join(one.answer.split()[3:]) for one in (asked, *others)]
    order = draw.sample(range(4), 4)
    return {
        "query": f"{asked.question}\n{' '.join(words[:3])}",
        "choices": [ends[i] for i in order],
        "gold": order.index(0),
    }


def ours(folder: Path, shots: int) -> tuple[str, float, list[float]]:
    """Who, seconds, accuracy and the same by bytes."""
    config = TaskConfig(
        shards=(str(folder / "rows.jsonl"),),
        schema="choices",
        shots=shots,
        shots_from=(str(folder / "shots.jsonl"),) if shots else (),
    )
    desk = Desk()
    read = questions_in(config)
    task(desk.ask, folder / "model", config, read[0], read[1][:20])  # reads the model
    began = time.perf_counter()
    found = task(desk.ask, folder / "model", config, *read)
    seconds = time.perf_counter() - began
    by_metric = {one.metric: row(one)["value"] for one in found.measures}
    return "ours", seconds, [by_metric["accuracy"], by_metric["accuracy_per_byte"]]


def theirs(folder: Path, shots: int) -> list[tuple[str, float, list[float]]]:
    """The same of lm-eval with its best batch; nothing where there is none."""
    python = os.environ.get("HUMPTY_LM_EVAL")
    if not python:
        print("HUMPTY_LM_EVAL names no Python with lm-eval; ours alone")
        return []
    name = f"bench_{shots}"
    (folder / f"{name}.yaml").write_text(TASK.format(name=name, folder=folder, shots=shots))
    runs = []
    for batch in BATCHES:
        found = run(python, folder, name, batch)
        figures = [found["figures"][f"{one},none"] for one in ("acc", "acc_bytes")]
        runs.append((f"lm-eval, batches of {batch}", found["seconds"], figures))
    return [min(runs, key=lambda one: one[1])]


def run(python: str, folder: Path, name: str, batch: int) -> dict[str, Any]:
    """One run of lm-eval in a process of its own."""
    script = Path(__file__).with_name("_lm_eval.py").resolve()
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(  # -P: lm-eval imports a package called evaluate, which this file is not
        [python, "-P", str(script), str(folder / "exported"), name, str(batch)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])
