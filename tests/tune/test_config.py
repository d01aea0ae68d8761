"""The config as YAML has it: what the loader of specs takes, and how it refuses the rest."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from jobs import yaml_source
from jobs.diagnose import diagnose
from tune.config import ScalingConfig, SweepConfig

GOOD = """
metric: bpb
scheduler: asha
trials: 8
early: {grace: 1000}
also: {tokens_per_second: max}
space:
  pretrain.optim.lr: {loguniform: [1e-4, 1e-2]}
  pretrain.model.dropout: {uniform: [0, 0.3]}
  pretrain.model.mlp: {choice: [swiglu, gelu]}
  pretrain.model.hidden: {randint: [64, 256], when: {pretrain.model.mlp: [gelu]}}
  pretrain.optim.weight_decay: {quniform: [0, 0.2, 0.05]}
  pretrain.batch: {grid: [8, 16, true, x, 0.5]}
"""


def read(text: str, tmp_path: Path, record: Any = SweepConfig) -> tuple[Any, list[str]]:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    made, source = diagnose(yaml_source.read(str(path)), record)
    return made, [f"{'.'.join(map(str, p.keys))}: {p.message}" for p in source.problems]


def test_a_space_is_written_as_people_write_it(tmp_path: Path) -> None:
    made, problems = read(GOOD, tmp_path)
    assert not problems
    space = made.space
    assert space["pretrain.optim.lr"].loguniform == (1e-4, 1e-2)
    assert space["pretrain.model.dropout"].uniform == (0, 0.3)
    assert space["pretrain.model.hidden"].when == {"pretrain.model.mlp": ("gelu",)}
    assert space["pretrain.batch"].grid == (8, 16, True, "x", 0.5)
    assert [type(v) for v in space["pretrain.batch"].grid] == [int, int, bool, str, float]
    assert made.trials == 8 and made.concurrent == "auto" and made.early.grace == 1000


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scheduler: asha", "scheduler: ahsa", "scheduler: 'ahsa' is not allowed; did you mean"),
        ("{loguniform: [1e-4", "{loguniforn: [1e-4", "unknown key; did you mean 'loguniform'?"),
        ("uniform: [0, 0.3]", "uniform: [0, lots]", "'lots' is not allowed; must be a number"),
        ("uniform: [0, 0.3]", "uniform: 0.3", "must be a list of a number"),
        ("randint: [64, 256]", "randint: [64, 2.5]", "2.5 is not allowed; must be a whole number"),
        ("[swiglu, gelu]", "[swiglu, [gelu]]", "is not allowed"),
        ("tokens_per_second: max", "tokens_per_second: most", "must be one of min, max"),
        ("trials: 8", "trials: 0", "must be a whole number greater than 0, or auto"),
    ],
)
def test_a_mistake_is_one_line_at_its_place(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert old in GOOD
    _, problems = read(GOOD.replace(old, new), tmp_path)
    assert len(problems) == 1 and message in problems[0], problems


def test_a_ladder_is_written_in_four_lines(tmp_path: Path) -> None:
    text = "depths: [1, 2, 3]\nbudgets: [1e12, 2e12, 4e12, 8e12]\npredict: 1e14\nhold_out: true\n"
    made, problems = read(text, tmp_path, ScalingConfig)
    assert not problems and made.budgets[-1] == 8e12


def test_the_schema_can_be_exported() -> None:
    schema = TypeAdapter(SweepConfig).json_schema()
    assert "DimensionConfig" in schema["$defs"]
