"""Every cell of jobs/docs/support.md is a spec that the loader accepts (yes) or refuses (no)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from jobs.load import load
from llm.errors import SpecError
from tests.markdown import DOCS, prose

SPEC = """\
name: cell
cluster: {workers: 1}
data: {shards: text}
stages:
  tokenizer: {kind: tokenizer}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    model: {depth: 4, width: 256, heads: 4, context: 128}
"""

SFT = "stages.sft={kind: sft, from: pretrain, data: [{shards: chats.jsonl}]}"
REWARD = "stages.reward={kind: reward, from: sft, data: [{shards: pairs.jsonl}]}"
DPO = "stages.dpo={kind: dpo, from: sft, data: [{shards: pairs.jsonl}]}"
PPO = "stages.ppo={kind: ppo, from: sft, reward: reward, data: [{shards: chats.jsonl}]}"
IMPORT = "stages.import={kind: import, folder: llama}"
SWEEP = "{kind: sweep, of: pretrain, space: {pretrain.optim.lr: {choice: [1e-3, 1e-2]}}}"
EXPORT = "stages.export={kind: export, from: sft}"
GENERATE = 'stages.generate={kind: generate, from: sft, prompts: "a"}'

CHAIN = {
    "pretrain": [],
    "sft": [SFT],
    "reward": [SFT, REWARD],
    "dpo": [SFT, DPO],
    "ppo": [SFT, REWARD, PPO],
    "import": [IMPORT],
    "sweep of pretrain": [f"stages.search={SWEEP}"],
    "export": [SFT, EXPORT],
    "generate": [SFT, GENERATE],
}
"""What a spec has besides SPEC, if it has a stage of a kind."""

NAMES = {"sweep of pretrain": "search"}

ONE_MORE = {
    "pretrain": "{kind: pretrain, from: %s}",
    "sft": "{kind: sft, from: %s, data: [{shards: chats.jsonl}]}",
    "reward": "{kind: reward, from: %s, data: [{shards: pairs.jsonl}]}",
    "dpo": "{kind: dpo, from: %s, data: [{shards: pairs.jsonl}]}",
    "ppo": "{kind: ppo, from: %s, rule: 'a.py:f', data: [{shards: chats.jsonl}]}",
    "export": "{kind: export, from: %s}",
    "generate": '{kind: generate, from: %s, prompts: "[MASK]"}',
    "serve": "{kind: serve, from: %s}",
    "evaluate": "{kind: evaluate, from: %s, text: {a: {shards: text}}}",
    "sweep": "{kind: sweep, of: %s, metric: loss, space: {%s.optim.lr: {choice: [1e-3, 1e-2]}}}",
    "scaling": "{kind: scaling, of: %s, depths: [1, 2, 3], budgets: [1, 2, 3, 4], predict: 9}",
}
"""A stage that builds on one."""

FAMILY = {
    "decoder": [],
    "window": ["stages.pretrain.model.family=window", "stages.pretrain.model.window=8"],
    "encoder": ["stages.pretrain.model.family=encoder"],
    "encoder_decoder": ["stages.pretrain.model.family=encoder_decoder"],
}


@dataclass(frozen=True)
class Cell:
    """What a table says of a row and a column."""

    table: str
    row: str
    column: str
    says: str

    def __str__(self) -> str:
        return f"{self.table}: {self.row} / {self.column}"


def cells() -> Iterator[Cell]:
    """Every yes and no of the page."""
    table, columns = "", []
    for _, line in prose(DOCS / "support.md"):
        values = [one.strip().replace("`", "") for one in line.strip("| ").split("|")]
        if line.startswith("## "):
            table, columns = line[3:], []
        elif line.startswith("|") and not columns:
            columns = [one.strip().replace("`", "") for one in line.strip().strip("|").split("|")]
        elif line.startswith("|") and not line.startswith("|-"):
            assert len(values) == len(columns), line
            for column, says in zip(columns[1:], values[1:], strict=True):
                yield Cell(table, values[0], column, says)


def built_on(kind: str, name: str) -> str:
    """The override that adds a stage of a kind, built on another."""
    return f"stages.more={ONE_MORE[kind].replace('%s', name)}"


def in_a_family(cell: Cell) -> list[str]:
    """A stage behind a pretraining of a family; alignments build on an sft of it."""
    family, kind = FAMILY[cell.row], cell.column
    if kind == "pretrain":
        return family
    if kind in ("reward", "dpo", "ppo"):
        return [*family, SFT, built_on(kind, "sft")]
    return [*family, built_on("pretrain" if "from" in kind else kind, "pretrain")]


def on_another(cell: Cell) -> list[str]:
    """A stage of the row that names one of the column."""
    kind = cell.column
    return [*CHAIN[kind], built_on(cell.row, NAMES.get(kind, kind))]


def of_a_training(cell: Cell) -> list[str]:
    """A key of the cluster or of the training in the column."""
    key, value = cell.row.split(": ", 1)
    strategy = re.fullmatch("with (.sdp)", cell.column)
    kind = "pretrain" if strategy else cell.column
    written = key if key.startswith("cluster.") else f"stages.{kind}.{key}"
    wide = ["cluster.workers=4"] if strategy else []
    chosen = [f"cluster.strategy={strategy[1]}"] if strategy else []
    return [*CHAIN[kind], *wide, *chosen, f"{written}={value}"]


def of_a_shape(cell: Cell) -> list[str]:
    """A key of a pretraining of the family in the column."""
    key, value = cell.row.split(": ", 1)
    steps = ["stages.pretrain.steps=100"] if key == "short_start" else []
    letters = ["stages.tokenizer.model=char"] if key == "model.code" else []
    return [*FAMILY[cell.column], *steps, *letters, f"stages.pretrain.{key}={value}"]


def of_a_sweep(cell: Cell) -> list[str]:
    """A search of the row with the scheduler of the column."""
    of, metric, dimension, search = "pretrain", "loss", "pretrain.optim.lr", "random"
    value = "{choice: [1e-3, 1e-2]}"
    match cell.row:
        case "of an sft stage":
            of, dimension = "sft", "sft.optim.lr"
        case "of a ppo stage":
            of, dimension, metric = "ppo", "ppo.optim.lr", "reward"
        case "of pretrain and sft in a row":
            of = "[pretrain, sft]"
        case "pretrain.model.depth in the space":
            dimension, value = "pretrain.model.depth", "{choice: [2, 4]}"
        case "metric: train_loss":
            metric = "train_loss"
        case "search: grid over a choice":
            search = "grid"
    settings = f"metric: {metric}, search: {search}, scheduler: {cell.column}"
    space = f"space: {{{dimension}: {value}}}"
    return [SFT, REWARD, PPO, f"stages.search={{kind: sweep, of: {of}, {settings}, {space}}}"]


TABLES = {
    "Families and stages": in_a_family,
    "Who may build on whom": on_another,
    "Trainings and machines": of_a_training,
    "Optimizers": of_a_training,
    "Shapes and families": of_a_shape,
    "Sweeps": of_a_sweep,
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("support") / "cell.yaml"
    path.write_text(SPEC)
    return str(path)


@pytest.mark.parametrize("cell", list(cells()), ids=str)
def test_what_the_table_says_is_what_the_loader_does(cell: Cell, spec: str) -> None:
    assert cell.says in ("yes", "no")
    overrides = TABLES[cell.table](cell)
    if cell.says == "yes":
        load(spec, overrides)
    else:
        with pytest.raises(SpecError) as refused:
            load(spec, overrides)
        assert "unknown key" not in str(refused.value), "refused for another reason"


def test_every_table_has_both_answers() -> None:
    for table in TABLES:
        assert {cell.says for cell in cells() if cell.table == table} == {"yes", "no"}, table
