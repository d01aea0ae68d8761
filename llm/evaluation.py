"""evaluation.json: what was measured of which model, with intervals, and how models differ.

parts/TASK.MODEL.json   one measurement of one model, written as it ends: a run that fell goes
                        on with those that are missing
evaluation.json         rows, differences (of paired items) and calibration of all of them
examples.jsonl          every item: what was asked, what came, whether it was right
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm.files import write_atomic, write_json
from llm.found import Found
from llm.intervals import Measure, difference, row

NAME = "evaluation.json"
EXAMPLES = "examples.jsonl"
PARTS = "parts"

Part = dict[str, Any]


def part_path(folder: Path, task: str, model: str) -> Path:
    """Where a measurement is kept."""
    return folder / PARTS / f"{task}.{model}.json"


def write_part(path: Path, task: str, model: str, found: Found) -> None:
    """Keep a measurement."""
    content = {"task": task, "model": model, **asdict(found)}
    write_atomic(path, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")


def read_parts(folder: Path, names: Sequence[tuple[str, str]]) -> list[Part]:
    """Measurements by task and model."""
    return [json.loads(part_path(folder, *one).read_text()) for one in names]


def rows_of(part: Part) -> list[dict[str, Any]]:
    """The figures of a part, its main one first."""
    who = {"model": part["model"], "task": part["task"]}
    made = [row(Measure(**measure)) for measure in part["measures"]]
    return [who | one for one in (*made, *part["rows"])]


def differences(parts: Sequence[Part], first: str) -> Iterator[dict[str, Any]]:
    """What model `first` has more than each other one, item by item."""
    own = {part["task"]: part for part in parts if part["model"] == first}
    for other in parts:
        if other["model"] == first or other["task"] not in own:
            continue
        theirs = {measure["metric"]: measure for measure in other["measures"]}
        for measure in own[other["task"]]["measures"]:
            match = theirs.get(measure["metric"])
            fits = match and len(match["values"]) == len(measure["values"])
            if match and fits and measure["unit"] != "perplexity":
                found = difference(Measure(**measure), Measure(**match))
                who = {"task": other["task"], "model": first, "other": other["model"]}
                yield who | found


def write_evaluation(folder: Path, parts: Sequence[Part], first: str) -> dict[str, Any]:
    """Put all parts together; evaluation.json is written last."""
    lines = (
        json.dumps({"task": part["task"], "model": part["model"], **one}, ensure_ascii=False)
        for part in parts
        for one in part["examples"]
    )
    write_atomic(folder / EXAMPLES, "".join(line + "\n" for line in lines))
    evaluation = {
        "rows": [one for part in parts for one in rows_of(part)],
        "differences": list(differences(parts, first)),
        "calibration": [
            {"model": part["model"], "task": part["task"], "bins": part["calibration"]}
            for part in parts
            if part["calibration"]
        ],
    }
    write_json(folder / NAME, evaluation)
    return evaluation
