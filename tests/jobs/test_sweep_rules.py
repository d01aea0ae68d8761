"""What a sweep cannot be told, each with its one line; what its values become in a spec."""

import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from jobs.best import best_spec, write_best
from jobs.facts import Facts, Text
from jobs.load import load
from jobs.plan import resolve
from jobs.planned import Plan
from jobs.show import show
from jobs.side_by_side import cpus_side_by_side
from jobs.spec import Spec
from jobs.trial import stages_run
from llm.errors import SpecError
from tune.config import ResourcesConfig

SPEC = """\
name: small
data: {shards: text.txt}
stages:
  tokenizer: {kind: tokenizer, vocab_size: 1000}
  pretrain:
    {kind: pretrain, tokenizer: tokenizer, model: {depth: 2, width: 128}, steps: 100, batch: 8}
  search:
    kind: sweep
    of: pretrain
    space:
      pretrain.optim.lr: {loguniform: [1e-4, 1e-2]}
      pretrain.model.depth: {choice: [1, 2]}
  sft: {kind: sft, from: search, data: [{shards: pydoc://, schema: question_answer}]}
  chat: {kind: serve, from: sft, also: [search]}
"""

SEARCH = "stages.search"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(SPEC)
    Path("text.txt").write_text("Once upon a time.\n")
    return "x.yaml"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "pretrain.optim.lr:",
            "pretrain.optim.rl:",
            "x.yaml:11: stages.search.space.pretrain.optim.rl: unknown key 'rl'; did you mean "
            "'pretrain.optim.lr'? allowed: kind, lr, lr_width, schedule, warmup, decay, final_lr, "
            "betas, momentum, eps, weight_decay, clip, ema, z_loss",
        ),
        (
            "pretrain.optim.lr:",
            "optim.lr:",
            "x.yaml:11: stages.search.space.optim.lr: does not begin with a stage of the trials; "
            "did you mean 'pretrain.optim.lr'? they run pretrain",
        ),
        (
            "pretrain.optim.lr:",
            "pretrain.optim:",
            "x.yaml:11: stages.search.space.pretrain.optim: is a group of fields; name one of "
            "kind, lr, lr_width, schedule, warmup, decay, final_lr, betas, momentum, eps, "
            "weight_decay, clip, ema, z_loss",
        ),
        (
            "pretrain.optim.lr: {loguniform: [1e-4, 1e-2]}",
            "pretrain.tokenizer: {choice: [a, b]}",
            "x.yaml:11: stages.search.space.pretrain.tokenizer: cannot vary; name a field that is "
            "a plain value, such as pretrain.optim.lr",
        ),
        (
            "choice: [1, 2]",
            "choice: [1, 2.5]",
            "x.yaml:12: stages.search.space.pretrain.model.depth: 2.5 is not allowed; must be a "
            "whole number greater than 0",
        ),
        (
            "pretrain.model.depth: {choice: [1, 2]}",
            "pretrain.model.heads: {choice: [2, 3]}",
            "x.yaml:12: stages.search.space.pretrain.model.heads: 3 is not allowed; width 128 must "
            "divide by heads 3",
        ),
        (
            "loguniform: [1e-4, 1e-2]",
            "loguniform: [0, 1e-2]",
            "x.yaml:11: stages.search.space.pretrain.optim.lr: loguniform starts at 0, which has "
            "no logarithm; it must be above 0",
        ),
        (
            "of: pretrain",
            "of: pretrian",
            "x.yaml:9: stages.search.of.0: 'pretrian' is not a stage of this file; did you mean "
            "'pretrain'? must be a corpus, tokenizer, pretrain, sft, reward, dpo or ppo stage: "
            "tokenizer, pretrain, sft",
        ),
        (
            "of: pretrain",
            "of: pretrain\n    metric: bpd",
            "x.yaml:10: stages.search.metric: 'bpd' is not measured; did you mean 'bpb'? a "
            "pretrain stage has bpb, loss",
        ),
        (
            "of: pretrain",
            "of: pretrain\n    metric: tokens_per_second",
            "x.yaml:10: stages.search.metric: 'tokens_per_second' is not measured while it trains; "
            "a pretrain stage has bpb, loss",
        ),
        (
            "of: pretrain",
            "of: pretrain\n    scheduler: pbt",
            "x.yaml:13: stages.search.space.pretrain.model.depth: cannot change under way, as pbt "
            "would; it may move optim, dropout, faults, kl, clip, value_clip, entropy, beta, "
            "margin",
        ),
    ],
)
def test_one_mistake_is_one_line(file: str, old: str, new: str, complaint: str) -> None:
    Path(file).write_text(SPEC.replace(old, new))
    with pytest.raises(SpecError) as error:
        load(file)
    assert complaint in str(error.value).splitlines()


def test_a_sweep_counts_as_what_its_last_stage_is(file: str) -> None:
    spec = SPEC.replace("sft: {kind: sft, from: search", "judge: {kind: reward, from: search")
    spec = spec.replace("question_answer", "pairs").replace("from: sft", "from: search")
    Path(file).write_text(spec)
    with pytest.raises(SpecError, match="'search' is a sweep of a pretrain stage; must be a"):
        load(file)


def planned(spec: Spec) -> Plan:
    return resolve(spec, Facts(cores=2, text=Text(1000, "d"), examples={"sft": (Text(9, "e"),)}))


def test_a_stage_of_trials_runs_by_itself_only_if_others_name_it(file: str) -> None:
    plan = planned(load(file))
    assert plan.by_name["pretrain"].status == "not needed"
    assert plan.by_name["pretrain"].reason == "only trials of 'search' run it"
    plan = planned(load(file, ["stages.sft.from=pretrain"]))
    assert plan.by_name["pretrain"].status == "will run"


def test_tokens_are_made_for_trials(file: str) -> None:
    plan = planned(load(file, ["stages.pretrain.cache=true"]))
    assert plan.by_name["data.tokenizer"].status == "will run"
    assert plan.by_name["pretrain"].status == "not needed"


def test_a_trial_with_a_tokenizer_of_its_own_has_its_own_tokens(file: str) -> None:
    stages = load(file, ["stages.pretrain.cache=true"]).stages
    assert stages_run(("pretrain",), stages) == ["pretrain"]
    row = ("tokenizer", "pretrain")
    assert stages_run(row, stages) == ["tokenizer", "data.tokenizer", "pretrain"]


def test_a_sweep_that_waits_knows_how_many_cpus_it_will_take(file: str) -> None:
    waiting = ["stages.pretrain.epochs=1", "stages.pretrain.steps=auto"]
    plan = planned(load(file, [*waiting, f"{SEARCH}.each.workers=2"]))
    search = plan.by_name["search"]
    assert search.stage is None
    assert cpus_side_by_side(plan, search) >= 2
    show(plan, Console(file=io.StringIO()))


def test_what_is_built_on_a_sweep_waits_for_it(file: str) -> None:
    assert planned(load(file)).by_name["sft"].reason == "'search' will run"


def test_more_trials_and_other_machines_are_the_same_sweep(file: str) -> None:
    one = planned(load(file)).by_name["search"].fingerprint
    more = [f"{SEARCH}.trials=32", f"{SEARCH}.hours=2", f"{SEARCH}.each.workers=4"]
    assert planned(load(file, more)).by_name["search"].fingerprint == one
    for other in (f"{SEARCH}.scheduler=none", "stages.pretrain.batch=16", "seed=3"):
        assert planned(load(file, [other])).by_name["search"].fingerprint != one


def test_a_trial_takes_small_workers_unless_told(file: str) -> None:
    def each(*overrides: str) -> ResourcesConfig:
        stage = planned(load(file, overrides)).by_name["search"].stage
        return stage.each  # type: ignore[union-attr]

    small = ResourcesConfig(workers=1, cpus_per_worker=1, gpus_per_worker=0)
    assert each() == small
    told = each("cluster.cpus_per_worker=2", "cluster.gpus_per_worker=0.5")
    assert told == ResourcesConfig(workers=1, cpus_per_worker=2, gpus_per_worker=0.5)
    assert each(f"{SEARCH}.each.cpus_per_worker=3").cpus_per_worker == 3


def test_the_best_values_are_a_spec_without_the_sweep(file: str, tmp_path: Path) -> None:
    point = {"pretrain.optim.lr": 0.00123, "pretrain.model.depth": 1}
    spec = load(file)
    patch, ready = write_best(spec, "search", ("pretrain",), point, tmp_path)
    best = load(str(ready))
    assert list(best.stages) == ["tokenizer", "pretrain", "sft", "chat"]
    assert best.stages["sft"].from_ == "pretrain"  # type: ignore[union-attr]
    assert best.stages["chat"].also == ("pretrain",)  # type: ignore[union-attr]
    stage = best.stages["pretrain"]
    assert (stage.optim.lr, stage.model.depth, stage.steps) == (0.00123, 1, 100)  # type: ignore[union-attr]
    assert best.data == spec.data  # with absolute paths
    patched = load(file, patch.read_text().split())
    assert patched.stages["pretrain"] == stage


def test_only_what_differs_from_defaults_is_written(file: str) -> None:
    values = best_spec(load(file), "search", ("pretrain",), {"pretrain.optim.lr": 1e-3})
    assert values["stages"]["tokenizer"] == {"kind": "tokenizer", "vocab_size": 1000}
    assert values["stages"]["pretrain"]["optim"] == {"lr": 1e-3}
    assert yaml.safe_load(yaml.safe_dump(values)) == values
