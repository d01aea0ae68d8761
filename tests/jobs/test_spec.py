"""Loading a spec: defaults, paths, and every mistake at once with its line and a remedy."""

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jobs import schema
from jobs.load import load
from jobs.shape import distance, fields_of, help_of, nearest
from jobs.spec import Spec, SpecFile
from jobs.stages import GenerateStage, PretrainStage, TokenizerStage
from llm.config import TrainConfig
from llm.errors import SpecError
from llm.presets import PRESETS

JOBS = Path(__file__).parents[2] / "jobs"
SHIPPED = sorted(JOBS.glob("*.yaml"))

Write = Callable[..., str]

SMALL = """\
name: small
data:
  shards: text.txt
stages:
  tokenizer: {kind: tokenizer}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    model: {depth: 2}
    optim: {lr: 1e-3}
  generate: {kind: generate, from: pretrain, prompts: Once}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> str:
        (tmp_path / "x.yaml").write_text(text)
        return str(tmp_path / "x.yaml")

    return written


def complaints(file: str, *overrides: str) -> list[str]:
    """What is wrong, without the folder of the file."""
    with pytest.raises(SpecError) as error:
        load(file, overrides)
    assert error.value.exit_code == 2
    return [re.sub(r"^/.*/", "", line) for line in str(error.value).split("\n")]


def shards_of(spec: Spec) -> tuple[str, ...]:
    assert spec.data
    return spec.data.shards


def test_a_small_spec_has_typed_stages_and_defaults(write: Write) -> None:
    spec = load(write(SMALL))
    assert isinstance(spec, Spec)
    assert isinstance(spec.stages["tokenizer"], TokenizerStage)
    pretrain, generate = spec.stages["pretrain"], spec.stages["generate"]
    assert isinstance(pretrain, PretrainStage)
    assert pretrain.optim.lr == 1e-3
    assert pretrain.batch == "auto"
    assert type(pretrain.train) is TrainConfig
    assert isinstance(generate, GenerateStage)
    assert (generate.from_, generate.prompts) == ("pretrain", ("Once",))
    assert spec.seed == 0


def test_paths_start_from_where_they_are_written(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    file = write(SMALL)
    assert shards_of(load(file)) == (str(tmp_path / "text.txt"),)
    assert load(file).storage == str(here / "runs")
    spec = load(file, ["data.shards=[a, s3://b/c, pydoc]", "stages.tokenizer.file=t.model"])
    assert shards_of(spec) == (str(here / "a"), "s3://b/c", str(here / "pydoc"))
    tokenizer = spec.stages["tokenizer"]
    assert isinstance(tokenizer, TokenizerStage)
    assert tokenizer.file == str(here / "t.model")


def test_validation_shards_take_the_place_of_the_default_share(write: Write) -> None:
    usual, own = load(write(SMALL)).data, load(write(SMALL), ["data.validation.shards=v"]).data
    assert usual and own
    assert (usual.validation.fraction, own.validation.fraction) == (0.05, 0)


def test_all_problems_come_at_once_in_the_order_of_lines(write: Write) -> None:
    text = """\
name: small
sed: 3
data:
  shards: b
  batch: 3
  text: 1
stages:
  tokenizer: {kind: tokeniser, model: unigrm}
  pretrain:
    kind: pretrain
    tokenizer: tokenise
    depth: 3
    steps: 2.5
    batch: atuo
    optim: {lrr: 1, schedule: fast, clip: -1, betas: [0.9, 2]}
  generate: {kind: generate, from: pretrain, prompts: []}
"""
    file = write(text)
    assert complaints(file, "stages.pretrain.model.tied=no", "stages.pretrian.steps=3") == [
        "x.yaml:2: sed: unknown key; did you mean 'seed'? "
        "allowed: version, name, seed, storage, cluster, tracking, data, stages",
        "x.yaml:5: data.batch: unknown key; it belongs under stages.pretrain; "
        "allowed: validation, shards, format, text, documents, encoding",
        "x.yaml:6: data.text: 1 is not allowed; must be text",
        "x.yaml:8: stages.tokenizer.kind: 'tokeniser' is not allowed; did you mean 'tokenizer'? "
        "allowed: corpus, tokenizer, pretrain, sft, reward, dpo, ppo, generate, evaluate, serve, "
        "import, export, sweep, scaling",
        "x.yaml:8: stages.tokenizer.model: 'unigrm' is not allowed; did you mean 'unigram'? "
        "must be one of unigram, bpe, char, word",
        "x.yaml:11: stages.pretrain.tokenizer: 'tokenise' is not a stage of this file; "
        "did you mean 'tokenizer'? must be a tokenizer stage: tokenizer",
        "x.yaml:12: stages.pretrain.depth: unknown key; it belongs under stages.pretrain.model; "
        "allowed: kind, tokenizer, from, corpus, cache, model, objective, prompt, batch, "
        "micro_batch, precision, compile, recompute, validate_every, log_every, statistics, optim, "
        "checkpoint, faults, tokens, steps, epochs, short_start",
        "x.yaml:13: stages.pretrain.steps: 2.5 is not allowed; "
        "must be a whole number greater than 0, or auto",
        "x.yaml:14: stages.pretrain.batch: 'atuo' is not allowed; did you mean 'auto'? "
        "must be a whole number greater than 0, or auto",
        "x.yaml:15: stages.pretrain.optim.lrr: unknown key; did you mean 'lr'? allowed: "
        "kind, lr, lr_width, schedule, warmup, decay, final_lr, betas, momentum, eps, "
        "weight_decay, clip, ema, z_loss",
        "x.yaml:15: stages.pretrain.optim.schedule: 'fast' is not allowed; "
        "must be one of cosine, linear, inverse_sqrt, wsd, constant",
        "x.yaml:15: stages.pretrain.optim.betas.1: 2 is not allowed; "
        "must be a number of at least 0 and less than 1",
        "x.yaml:15: stages.pretrain.optim.clip: -1 is not allowed; must be a number of at least 0",
        "x.yaml:16: stages.generate.prompts: an empty list is not allowed; "
        "must be text or a list of text, at least 1",
        "command line: stages.pretrain.model.tied=no: stages.pretrain.model.tied: "
        "'no' is not allowed; must be true or false",
        "command line: stages.pretrian.steps=3: stages.pretrian: no such stage; "
        "did you mean 'pretrain'? stages: tokenizer, pretrain, generate",
    ]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("name: small\n", "", "x.yaml:1: name: missing: Name of the run, a folder in the storage."),
        (
            "    tokenizer: tokenizer\n",
            "",
            "x.yaml:6: stages.pretrain.tokenizer: missing: name a tokenizer stage, or "
            "with `from` a model to train on",
        ),
        (
            "{kind: tokenizer}",
            "{vocab_size: 300}",
            "x.yaml:5: stages.tokenizer.kind: missing: what the stage does; "
            "allowed: corpus, tokenizer, pretrain, sft, reward, dpo, ppo, generate, evaluate, "
            "serve, import, export, sweep, scaling",
        ),
        (
            "{kind: tokenizer}",
            "tokenizer",
            "x.yaml:5: stages.tokenizer: 'tokenizer' is not allowed; "
            "must be a mapping with the key kind",
        ),
        (
            "optim: {lr: 1e-3}",
            "optim:",
            "x.yaml:10: stages.pretrain.optim: null is not allowed; must be a mapping with the "
            "keys kind, lr, lr_width, schedule, warmup, decay, final_lr, betas, momentum, eps, "
            "weight_decay, clip, ema, z_loss",
        ),
        (
            "lr: 1e-3",
            "lr: .inf",
            "x.yaml:10: stages.pretrain.optim.lr: .inf is not allowed; a number must be finite",
        ),
        (
            "depth: 2",
            "depth: '2'",
            "x.yaml:9: stages.pretrain.model.depth: '2' is not allowed; "
            "must be a whole number greater than 0",
        ),
    ],
)
def test_one_mistake_is_one_line(write: Write, old: str, new: str, complaint: str) -> None:
    assert complaints(write(SMALL.replace(old, new))) == [complaint]


def test_a_misspelt_section_is_still_read(write: Write) -> None:
    lines = complaints(write(SMALL.replace("stages:", "stage:").replace("depth: 2", "depth: 0")))
    assert [line.split(": ")[1] for line in lines] == ["stage", "stages.pretrain.model.depth"]


def test_rules_are_checked_beside_mistakes_of_shape(write: Write) -> None:
    text = SMALL.replace("depth: 2", "depth: 2, width: 100, heads: 3").replace("small", "s m", 1)
    lines = complaints(write(text + "seeed: 1\n"))
    assert [line.split(": ")[1] for line in lines] == [
        "name",
        "stages.pretrain.model.heads",
        "seeed",
    ]


# -- typos -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Typo:
    """A key of a shipped file, broken by one edit."""

    file: Path
    key: str
    broken: str
    line: int
    text: str


def keys_in(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Every key, with its marks."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield from keys_in(value)


def edits(word: str, chance: random.Random) -> Iterator[str]:
    """One of each: a letter dropped, doubled, swapped with the next, replaced."""
    at = chance.randrange(len(word))
    yield word[:at] + word[at + 1 :]
    yield word[:at] + word[at] + word[at:]
    pairs = [i for i in range(len(word) - 1) if word[i] != word[i + 1]]
    if pairs:
        i = chance.choice(pairs)
        yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    other = chance.choice([letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter != word[at]])
    yield word[:at] + other + word[at + 1 :]


def typos(file: Path) -> Iterator[Typo]:
    chance = random.Random(file.name)
    text = file.read_text()
    for key in keys_in(yaml.compose(text, Loader=yaml.SafeLoader)):
        start, end = key.start_mark, key.end_mark
        for broken in edits(key.value, chance):
            if broken:
                edited = text[: start.index] + broken + text[end.index :]
                yield Typo(file, key.value, broken, start.line + 1, edited)


EVALUATED = ("evaluate", "preferred")
"""Names of an evaluation and of a task in it."""


def is_named_by_nobody(typo: Typo) -> bool:
    """The last stages, a source and a task may be called anything."""
    if typo.file.stem == "presets" and typo.key in PRESETS:
        return True
    last = (
        ("dpo", "ppo")
        if typo.file.stem == "chat"
        else ("generate", "python", "ladder", "export", "transformer", "text", *EVALUATED)
    )
    return typo.key in (*last, "serve")


def test_a_typo_in_any_key_of_a_shipped_file_is_put_right(write: Write) -> None:
    total, right = 0, 0
    for typo in (typo for file in SHIPPED for typo in typos(file)):
        if is_named_by_nobody(typo):
            continue
        total += 1
        with pytest.raises(SpecError) as error:
            load(write(typo.text))
        message = str(error.value)
        stages = ("corpus", "tokenizer", "llama", "pretrain", "sft", "reward", "ppo")
        if typo.key in stages and f"'{typo.key}' is not a stage" in message:
            right += f"did you mean '{typo.broken}'" in message  # the name of a stage
        else:
            right += f"x.yaml:{typo.line}: " in message and f"did you mean '{typo.key}'" in message
    assert total > 400
    assert right / total >= 0.95, f"{right} of {total}"


def test_distance_counts_a_swap_of_neighbours_as_one_edit() -> None:
    assert distance("lr", "rl") == 1
    assert distance("depth", "dept") == 1
    assert distance("kitten", "sitting") == 3
    assert nearest("xyz", ["lr", "depth"]) == []
    assert nearest("top_", ["top_k", "top_p", "stop"]) == ["top_k", "top_p"]


# -- the schema ------------------------------------------------------------------------------------


def test_the_committed_schema_is_that_of_the_records() -> None:
    assert (JOBS / "schema.json").read_text() == schema.text(), (
        "python -m jobs schema > jobs/schema.json"
    )


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_files_load_and_fit_the_schema(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    spec = load(str(file))
    assert spec.name == file.stem
    values: Any = spec.origin.source.values
    jsonschema.Draft202012Validator(schema.schema()).validate(values)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**values, "sed": 1}, schema.schema())


def test_every_key_of_the_schema_has_its_help() -> None:
    made = schema.schema()
    for name, record in {"spec": made, **made["$defs"]}.items():
        for key, value in record["properties"].items():
            assert value.get("description"), f"{name}.{key}"
    assert "from" in made["$defs"]["GenerateStage"]["properties"]
    assert json.dumps(made)


def test_inherited_fields_keep_their_help() -> None:
    assert help_of(PretrainStage)["steps"] == "Optimizer updates; auto: what `tokens` makes."
    assert list(fields_of(GenerateStage)) == ["kind", "from", "prompts", "sampling"]
    assert fields_of(SpecFile)["stages"].required
    assert not fields_of(SpecFile)["seed"].required
