"""What the plan says of an evaluation, and the table at its end."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from jobs.figures import counted
from jobs.planned import StagePlan
from jobs.stages import EvaluateStage
from llm.evaluate_config import TaskConfig
from llm.evaluation_section import written
from llm.metrics import size_of

Rows = Iterator[tuple[str, str]]


def evaluate_rows(stage: EvaluateStage, plan: StagePlan) -> Rows:
    """Models, and what is measured of each."""
    yield "models", ", ".join(stage.models)
    texts = [f"{name} {size_of(text.bytes)}" for name, text in stage.text.items()]
    texts += [f"each source of '{stage.corpus}'"] if stage.corpus else []
    if texts:
        yield "bits/byte", ", ".join(texts)
    for name, task in stage.tasks.items():
        yield f"{name:.12}", task_words(task)
    if stage.wins is not None:
        judge = stage.wins.judge.model if stage.wins.judge else f"'{stage.reward}'"
        most = counted(stage.wins.limit, "prompt")
        yield "wins", f"'{stage.from_}' against the others, {most} at most, judged by {judge}"
    if stage.memorisation is not None:
        yield "memorisation", f"{counted(stage.memorisation.documents, 'document')} of its training"
    if stage.toxicity is not None:
        yield "toxicity", f"listed words after {counted(stage.toxicity.limit, 'prompt')} at most"
    if stage.associations is not None:
        names = (*stage.associations.lists, *stage.associations.own)
        yield "associations", ", ".join(names)
    if plan.text_bytes:
        yield "data", size_of(plan.text_bytes)
    if "figures" in plan.metrics:
        yield "result", counted(plan.metrics["figures"], "figure")


def task_words(task: TaskConfig) -> str:
    """`arc, the first 500, 5 solved ones before each, in chat`"""
    parts: list[str] = [task.schema]
    parts += [f"the first {task.limit:,}"] if task.limit else ["all questions"]
    parts += [f"{counted(task.shots, 'solved one')} before each"] if task.shots else []
    parts += [f"{task.measure}"] if task.measure else []
    return ", ".join([*parts, *(["in chat"] if task.chat else [])])


def table_of(evaluation: Mapping[str, Any], models: Sequence[str]) -> Table:
    """A line for each figure of each model, with its interval; models below one another."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in evaluation["rows"]:
        found.setdefault((row["task"], row["metric"]), []).append(row)
    table = Table(box=None, pad_edge=False)
    for name in ("task", "metric", "model", "figure (95% interval)"):
        table.add_column(name, overflow="fold")
    table.add_column("items", justify="right")
    for (task, metric), rows in found.items():
        rows.sort(key=lambda row: models.index(row["model"]))
        for number, row in enumerate(rows):
            what = ("", "") if number else (task, metric.replace("_", " "))
            table.add_row(*what, row["model"], written(row), f"{row['examples']:,}")
    return table
