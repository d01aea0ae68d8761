"""The plan: what auto becomes, what runs and why, what it costs, how it looks."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jobs import auto
from jobs.facts import Facts, SourceFacts, Text, gather, refresh
from jobs.load import load
from jobs.plan import resolve
from jobs.planned import Plan
from jobs.show import show
from jobs.spec import Spec
from jobs.stages import PretrainStage
from llm.config import ModelConfig, OptimConfig
from llm.errors import ArtifactError, DataError, SpecError

JOBS = Path(__file__).parents[2] / "jobs"
FACTS = Facts(
    cores=4,
    text=Text(1_000_000, "digest"),
    examples={name: (Text(1_000_000, "digest"),) for name in ("sft", "reward", "dpo", "ppo")},
    corpora={"corpus": SourceFacts({"python": Text(1_000_000, "digest")})},
)

SPEC = """\
name: small
seed: 7
cluster: {workers: 2}
data: {shards: text.txt}
stages:
  generate: {kind: generate, from: pretrain, prompts: Once}
  pretrain: {kind: pretrain, tokenizer: tokenizer, model: {depth: 2}, steps: 100, batch: 12}
  tokenizer: {kind: tokenizer, vocab_size: 1000}
"""


LoadSpec = Callable[..., Spec]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadSpec:
    (tmp_path / "x.yaml").write_text(SPEC)
    (tmp_path / "text.txt").write_text("Once upon a time.\n" * 50)
    monkeypatch.chdir(tmp_path)

    def loaded(*overrides: str) -> Spec:
        return load("x.yaml", overrides)

    return loaded


def finish(plan: Plan, name: str, **metrics: float) -> Path:
    """Put down the manifest of a finished stage, as jobs.run does."""
    stage = plan.by_name[name]
    assert stage.folder
    stage.folder.mkdir(parents=True)
    manifest = {**stage.manifest, "metrics": metrics}
    (stage.folder / "manifest.json").write_text(json.dumps(manifest))
    return stage.folder


def planned(spec: Spec) -> Plan:
    return resolve(spec, gather(spec))


def reasons(plan: Plan) -> dict[str, str]:
    return {stage.name: f"{stage.status}: {stage.reason}" for stage in plan.stages}


# -- auto ------------------------------------------------------------------------------------------


def test_depth_alone_gives_the_model() -> None:
    model = auto.model(ModelConfig(depth=12))
    assert (model.width, model.heads, model.hidden) == (768, 12, 2048)  # 8/3 x 768 = 2048
    model = auto.model(ModelConfig(depth=4, mlp="gelu"))
    assert (model.width, model.heads, model.hidden) == (256, 4, 1024)
    assert auto.model(ModelConfig(depth=1, width=100)).hidden == 320  # 266.7 up to 5 x 64
    assert auto.model(ModelConfig(depth=1, width=32)).heads == 1


def test_resolved_records_resolve_to_themselves(spec: LoadSpec) -> None:
    model = auto.model(ModelConfig(depth=3))
    assert auto.model(model) == model
    stage = planned(spec()).by_name["pretrain"].stage
    assert isinstance(stage, PretrainStage)
    assert auto.pretrain(stage, 1000, 2) == stage


def test_steps_batch_and_context_make_the_tokens(spec: LoadSpec) -> None:
    stage = planned(spec()).by_name["pretrain"].stage
    assert isinstance(stage, PretrainStage)
    assert stage.tokens == 100 * 12 * 512
    assert (stage.micro_batch, stage.validate_every, stage.checkpoint.every) == (6, 10, 10)
    assert stage.optim.warmup == 10
    # 128,000 embedding + 2 x (4 x 128^2 + 3 x 128 x 384) + 5 x 128 norms = 554,624 parameters
    assert stage.optim.lr == pytest.approx(0.003239 - 0.0001395 * 13.226, rel=1e-2)


def test_without_steps_there_are_twenty_tokens_a_parameter(spec: LoadSpec) -> None:
    plan = planned(spec("stages.pretrain.steps=auto")).by_name["pretrain"]
    stage = plan.stage
    assert isinstance(stage, PretrainStage)
    assert plan.estimate
    assert sum(plan.estimate.parameters.values()) == 554_624
    assert stage.steps == 1806  # 20 x 554,624 / (12 x 512) = 1805.4
    assert stage.tokens == 1806 * 12 * 512


def test_the_batch_follows_compute_whichever_way_length_is_given() -> None:
    model = auto.model(ModelConfig(depth=12, context=1024))
    stage = PretrainStage(kind="pretrain", tokenizer="t", model=model)
    by_tokens = auto.pretrain(stage, 32_768, 1)
    # N = 110.1M, D = 20 N, C = 1.45e18: 0.292 C^0.3271 = 260k tokens = 254 sequences
    assert by_tokens.batch == 256
    by_steps = auto.pretrain(replace(stage, steps=by_tokens.steps), 32_768, 1)
    assert by_steps.batch == by_tokens.batch


def test_steps_and_tokens_together_give_the_batch(spec: LoadSpec) -> None:
    both = ("stages.pretrain.batch=auto", "stages.pretrain.tokens=409600")
    stage = planned(spec(*both)).by_name["pretrain"].stage
    assert isinstance(stage, PretrainStage)
    assert stage.batch == 8  # 409,600 / (100 x 512)
    with pytest.raises(SpecError, match="contradicts steps 100 x batch 8 x context 512 = 409600"):
        planned(spec("stages.pretrain.batch=auto", "stages.pretrain.tokens=400000"))


@given(batch=st.integers(1, 4096), workers=st.integers(1, 64))
def test_a_micro_batch_divides_the_batch_and_leaves_one_to_every_worker(
    batch: int, workers: int
) -> None:
    micro = auto.micro_batch(batch, workers)
    assert batch % micro == 0
    assert micro <= 8
    assert micro == 1 or batch // micro >= workers


def test_warm_up_leaves_room_in_a_very_short_run() -> None:
    assert auto.optim(OptimConfig(lr=1.0), 4, 1000).warmup == 2
    assert auto.optim(OptimConfig(lr=1.0), 100, 1000).warmup == 10
    assert auto.optim(OptimConfig(lr=1.0), 5000, 1000).warmup == 100


def test_an_auto_batch_smaller_than_the_workers_is_refused_with_its_line(spec: LoadSpec) -> None:
    with pytest.raises(SpecError, match=r"pretrain\.batch: .* must be at least 5000"):
        planned(spec("stages.pretrain.batch=auto", "cluster.workers=5000"))


def test_the_cores_are_shared_out() -> None:
    from cluster.config import ClusterConfig

    assert auto.cluster(ClusterConfig(workers=2), 7).cpus_per_worker == 3
    assert auto.cluster(ClusterConfig(workers=8), 2).cpus_per_worker == 1


# -- what runs -------------------------------------------------------------------------------------


def test_stages_come_in_the_order_of_the_graph(spec: LoadSpec) -> None:
    assert [stage.name for stage in planned(spec()).stages] == ["tokenizer", "pretrain", "generate"]


def test_fingerprints_do_not_depend_on_the_machine(spec: LoadSpec, tmp_path: Path) -> None:
    def fingerprints(*overrides: str, cores: int = 4) -> list[str | None]:
        made = spec("stages.pretrain.batch=auto", *overrides)
        return [stage.fingerprint for stage in resolve(made, replace(FACTS, cores=cores)).stages]

    usual = fingerprints()
    assert usual == fingerprints("cluster.workers=3", "cluster.gpus_per_worker=1", cores=64)
    assert usual == fingerprints("name=other", "storage=/elsewhere", "data.shards=/x")
    assert usual != fingerprints("seed=8")


def test_a_vocabulary_is_unknown_until_the_text_was_read(spec: LoadSpec) -> None:
    made = spec("stages.tokenizer.model=char", "stages.tokenizer.vocab_size=auto")
    plan = planned(made)
    assert reasons(plan) == {
        "tokenizer": "will run: no artifact yet",
        "pretrain": "will run: 'tokenizer' will run",
        "generate": "will run: 'pretrain' will run",
    }
    assert plan.by_name["pretrain"].stage is None
    finish(plan, "tokenizer", vocab_size=41)
    plan = planned(made)
    assert plan.by_name["tokenizer"].cached
    assert plan.by_name["pretrain"].estimate
    assert plan.by_name["pretrain"].estimate.parameters["token embedding"] == 41 * 128
    assert plan.next is plan.by_name["pretrain"]


def test_a_finished_stage_is_cached_until_something_in_it_changes(spec: LoadSpec) -> None:
    plan = planned(spec())
    for name in ("tokenizer", "pretrain", "generate"):
        finish(plan, name)
    plan = planned(spec("stages.pretrain.log_every=1", "cluster.workers=1"))
    assert plan.next is None
    assert reasons(plan)["tokenizer"].startswith("cached: made before")
    changed = planned(spec("stages.pretrain.optim.lr=0.5", "stages.pretrain.steps=50"))
    assert reasons(changed)["tokenizer"].startswith("cached")
    assert "steps 100 -> 50" in reasons(changed)["pretrain"]
    assert "optim.lr 0.00139 -> 0.5" in reasons(changed)["pretrain"]
    assert reasons(changed)["generate"] == "will run: 'pretrain' will run"


def test_the_reason_names_the_text_the_seed_and_the_parent(spec: LoadSpec, tmp_path: Path) -> None:
    plan = planned(spec())
    finish(plan, "tokenizer")
    finish(plan, "pretrain")
    (tmp_path / "text.txt").write_text("Another text.\n")
    assert reasons(planned(spec()))["tokenizer"] == "will run: the text has changed"
    pretrain = reasons(planned(spec("data.documents=line", "seed=8")))["pretrain"]
    for part in ("the text has changed", "documents", "seed 7 -> 8", "'tokenizer' will run"):
        assert part in pretrain


def test_an_unfinished_run_is_continued_from_its_newest_checkpoint(spec: LoadSpec) -> None:
    folder = planned(spec()).by_name["pretrain"].folder
    assert folder
    folder.mkdir(parents=True)
    assert "before its first checkpoint" in reasons(planned(spec()))["pretrain"]
    for step in ("step-000050", "step-000120", ".step-000130.tmp"):
        (folder / "checkpoints" / step).mkdir(parents=True)
    assert "continues after step 120" in reasons(planned(spec()))["pretrain"]


def test_facts_are_refreshed_without_reading_the_text_again(spec: LoadSpec, tmp_path: Path) -> None:
    made = spec()
    facts = gather(made)
    finish(resolve(made, facts), "tokenizer")
    (tmp_path / "text.txt").unlink()
    assert resolve(made, refresh(facts, made)).by_name["tokenizer"].cached


def test_a_damaged_manifest_is_named(spec: LoadSpec) -> None:
    folder = finish(planned(spec()), "tokenizer")
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"manifest\.json: is not a readable manifest"):
        planned(spec())


def test_missing_text_says_where_it_was_named_and_how_to_give_another(spec: LoadSpec) -> None:
    Path("text.txt").unlink()
    with pytest.raises(DataError, match=r"x\.yaml:4: data\.shards: .*run with data\.shards=PATH"):
        planned(spec())


def test_a_missing_tokenizer_file_is_named(spec: LoadSpec) -> None:
    with pytest.raises(DataError, match=r"none\.model cannot be read"):
        planned(spec("stages.tokenizer={kind: tokenizer, file: none.model}"))


def test_a_foreign_tokenizer_makes_the_model_wait(spec: LoadSpec, tmp_path: Path) -> None:
    (tmp_path / "my.model").write_bytes(b"model")
    plan = planned(spec("stages.tokenizer={kind: tokenizer, file: my.model}"))
    assert plan.by_name["tokenizer"].fingerprint
    assert plan.by_name["pretrain"].stage is None


# -- costs and looks -------------------------------------------------------------------------------


def test_time_goes_by_an_earlier_run_or_else_by_a_stated_guess(spec: LoadSpec) -> None:
    made = spec()
    cost = resolve(made, FACTS).by_name["pretrain"].estimate
    assert cost
    # 2 x 212,992 matrix + 128,000 head weights, 6 FLOPs each; attention 6 x 2 x 128 x 512
    assert cost.flops == (6 * 553_984 + 786_432) * 614_400
    assert cost.seconds == pytest.approx(cost.flops / 160e9)
    assert cost.speed == "if 4 cores do 40 GFLOP/s each"
    finish(resolve(made, FACTS), "pretrain", flops_per_second=1e9)
    cost = resolve(made, refresh(FACTS, made)).by_name["pretrain"].estimate
    assert cost
    assert cost.seconds == pytest.approx(cost.flops / 1e9)


def printed(spec: Spec, facts: Facts = FACTS) -> str:
    out = io.StringIO()
    show(resolve(spec, facts), Console(file=out, width=80))
    return out.getvalue()


def test_the_plan_fits_80_columns_and_ends_with_the_next_command(spec: LoadSpec) -> None:
    text = printed(spec("seed=3"))
    lines = text.rstrip().split("\n")
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "Next: python -m jobs run x.yaml seed=3"
    joined = " ".join(text.split())
    assert "554,624 = 128,000 token embedding + 131,072 attention + 294,912 mlp" in joined
    assert "100 steps of 12 sequences = 614k tokens" in joined
    assert "\x1b" not in text


def test_attention_and_short_rows_are_told_where_they_are_unusual(spec: LoadSpec) -> None:
    unusual = ("stages.pretrain.model.attend=document", "stages.pretrain.short_start=30")
    joined = " ".join(printed(spec(*unusual)).split())
    assert "context 512, documents apart" in joined
    assert "; 30 with shorter rows first" in joined
    assert "apart" not in printed(spec()) and "shorter" not in printed(spec())


def test_a_finished_plan_tells_how_to_write(spec: LoadSpec) -> None:
    plan = planned(spec())
    for name in ("tokenizer", "pretrain", "generate"):
        finish(plan, name)
    assert printed(spec(), gather(spec())).endswith(
        "All stages are done. Next: python -m jobs generate x.yaml --prompt TEXT\n"
    )


def test_a_server_is_told_with_the_memory_of_a_replica() -> None:
    joined = " ".join(printed(load(str(JOBS / "loop.yaml"))).split())
    assert "a replica for 2 models: weights 25.4 MB, keys and values 33.6 MB (bf16)" in joined


@pytest.mark.parametrize(
    "name",
    [
        "quickstart",
        "humpty",
        "shakespeare",
        "chinese",
        "corpus",
        "chat",
        "loop",
        "masked",
        "spans",
        "autoencoder",
        "window",
    ],
)
def test_every_shipped_file_can_be_planned(name: str) -> None:
    spec = load(str(JOBS / f"{name}.yaml"))
    kinds = ["tokenizer", "pretrain", "generate"]
    if name == "quickstart":
        kinds = ["tokenizer", "pretrain", "sft", "reward", "ppo", "generate", "serve"]
    if name == "window":
        kinds = ["tokenizer", "pretrain", "pretrain", "generate"]
    if name == "loop":
        kinds = ["tokenizer", "pretrain", "sft", "reward", "ppo", "serve"]
    if name == "corpus":
        kinds = ["corpus", "tokenizer", "tokens", "pretrain", "generate"]
    if name == "chat":
        kinds = ["tokenizer", "pretrain", "sft", "reward", "dpo", "ppo"]
    assert [stage.kind for stage in resolve(spec, FACTS).stages] == kinds
    assert f"Next: python -m jobs run {JOBS / name}.yaml" in printed(spec)


def test_shakespeare_is_the_well_known_small_model() -> None:
    stage = load(str(JOBS / "shakespeare.yaml")).stages["pretrain"]
    assert isinstance(stage, PretrainStage)
    from llm.size import parameters

    count = parameters(auto.model(stage.model), 65)
    # the public one counts 10.65M without positions: 12 x 6 x 384^2 + 65 x 384 + 13 x 384
    assert sum(count.values()) - count["positions"] == 10_646_784
