"""Serve stages: what cannot be, what auto becomes, and that nothing has to be made for them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.facts import gather
from jobs.load import load
from jobs.plan import resolve
from jobs.spec import Spec
from jobs.stages import ServeStage
from llm.errors import SpecError

SPEC = """\
name: small
cluster: {workers: 2, cpus_per_worker: 3}
data: {shards: text.txt}
stages:
  tokenizer: {kind: tokenizer, vocab_size: 1000}
  pretrain: {kind: pretrain, tokenizer: tokenizer, model: {depth: 2, context: 64}, steps: 9}
  more: {kind: pretrain, tokenizer: tokenizer, model: {depth: 2, context: 128}, steps: 9}
  serve: {kind: serve, from: pretrain, also: [more], filters: {hook: rules.py:bad}}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Spec]:
    (tmp_path / "x.yaml").write_text(SPEC)
    (tmp_path / "text.txt").write_text("Once upon a time.\n" * 50)
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: load("x.yaml", overrides)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("auth=false host=0.0.0.0", "auth: false is not allowed with host 0.0.0.0"),
        ("auth=false keys=k.txt", "keys: has no effect together with auth: false"),
        ("autoscaling.min=3", "autoscaling.min: 3 is not allowed; must be at most max, 1"),
        ("autoscaling.target=17", "autoscaling.target: 17 is not allowed; must be at most slots"),
        ("filters.hook=rules", "filters.hook: "),
        ("cors=*", "cors: '*' is not allowed"),
        ("also=[tokenizer]", "also.0: 'tokenizer' is a tokenizer stage; must be a pretrain"),
        ("from=mroe", "from: 'mroe' is not a stage of this file; did you mean 'more'?"),
        ("port=70000", "port: 70000 is not allowed"),
    ],
)
def test_what_cannot_be_served(spec: Callable[..., Spec], override: str, complaint: str) -> None:
    with pytest.raises(SpecError) as error:
        spec(*(f"stages.serve.{one}" for one in override.split()))
    assert f"stages.serve.{complaint}" in str(error.value)


def test_memory_must_hold_a_whole_context(spec: Callable[..., Spec]) -> None:
    loaded = spec("stages.serve.engine.tokens=100")
    with pytest.raises(SpecError, match=r"engine.tokens: 100 .* at least 128, the model's context"):
        resolve(loaded, gather(loaded))


def test_autos_become_numbers_and_nothing_runs(spec: Callable[..., Spec], tmp_path: Path) -> None:
    loaded = spec()
    plan = resolve(loaded, gather(loaded)).by_name["serve"]
    assert (plan.status, plan.folder) == ("on demand", None)
    assert "python -m jobs serve x.yaml" in plan.reason
    stage = plan.stage
    assert isinstance(stage, ServeStage)
    assert stage.models == ("pretrain", "more")
    assert (stage.engine.tokens, stage.engine.cpus) == (16 * 128, 3)
    assert stage.autoscaling.target == 12
    assert stage.filters.hook == f"{tmp_path / 'rules.py'}:bad"
