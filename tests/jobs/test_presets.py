"""A preset is other defaults: below what a spec says, above what is always so."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs import auto
from jobs.fingerprint import fingerprint
from jobs.load import load
from jobs.stages import PretrainStage
from llm.artifact import read_shape
from llm.config import ModelConfig, model_from_json
from llm.files import write_json
from llm.presets import PRESETS, with_preset

SPEC = """
name: mine
data: {shards: text}
stages:
  tokenizer: {kind: tokenizer}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    steps: 10
    model: %s
"""


def stage_of(folder: Path, model: str, *overrides: str) -> PretrainStage:
    (folder / "x.yaml").write_text(SPEC % model)
    stage = load(str(folder / "x.yaml"), overrides).stages["pretrain"]
    assert isinstance(stage, PretrainStage)
    return stage


def model_of(folder: Path, model: str, *overrides: str) -> ModelConfig:
    return auto.model(stage_of(folder, model, *overrides).model)


def test_the_smallest_gpt2(tmp_path: Path) -> None:
    model = model_of(tmp_path, "{preset: gpt2, depth: 12, context: 1024}")
    assert (model.width, model.heads, model.kv_heads, model.hidden) == (768, 12, 12, 3072)
    assert (model.positions, model.norm, model.mlp) == ("learned", "layernorm", "gelu_tanh")
    assert model.bias and model.qkv_bias and model.tied


def test_llama_shares_keys_and_turns_slowly(tmp_path: Path) -> None:
    model = model_of(tmp_path, "{preset: llama, depth: 2, width: 4096, heads: 32, hidden: 14336}")
    assert (model.kv_heads, model.rope.base, model.tied) == (8, 500_000.0, False)
    heads = [model_of(tmp_path, f"{{preset: llama, depth: {d}}}").kv_heads for d in (6, 7, 8, 12)]
    assert heads == [2, 7, 2, 3]  # 6 heads by threes, 7 alone, 8 and 12 by fours


def test_what_is_written_counts_more_also_inside_a_group(tmp_path: Path) -> None:
    written = "{preset: llama, tied: true, kv_heads: 6, rope: {scaling: linear, factor: 2.0}}"
    model = model_of(tmp_path, written)
    assert (model.tied, model.kv_heads) == (True, 6)
    assert (model.rope.base, model.rope.scaling, model.rope.factor) == (500_000.0, "linear", 2.0)


def test_the_command_line_chooses_a_preset_and_lays_values_over_it(tmp_path: Path) -> None:
    model = "stages.pretrain.model"
    made = model_of(tmp_path, "{}", f"{model}.preset=gpt2", f"{model}.bias=false")
    assert (made.positions, made.bias, made.qkv_bias) == ("learned", False, False)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_spec_that_holds_together(tmp_path: Path, preset: str) -> None:
    model = model_of(tmp_path, f"{{preset: {preset}}}")
    for key, value in PRESETS[preset].items():
        found = getattr(model, key)
        assert found == value or value == {"base": found.base}


def test_a_preset_is_named_like_its_fields_written_out(tmp_path: Path) -> None:
    def name(model: str) -> str:
        stage = stage_of(tmp_path, model)
        return fingerprint(replace(stage, model=auto.model(stage.model)), {}, {}, 1)

    written = "{positions: learned, norm: layernorm, mlp: gelu_tanh, bias: true, qkv_bias: true}"
    assert name("{preset: gpt2}") == name(written) != name("{}")
    assert name("{preset: humpty}") == name("{}") == name("{kv_heads: 6, norm_eps: 0.00001}")
    assert name("{experts: 4}") != name("{}") == name("{experts_per_token: 1}")


def test_an_artifact_from_before_is_what_it_was(tmp_path: Path) -> None:
    before: dict[str, Any] = {
        "depth": 2,
        "width": 32,
        "heads": 4,
        "hidden": 48,
        "context": 12,
        "positions": "rotary",
        "norm": "rmsnorm",
        "mlp": "swiglu",
        "bias": True,
        "tied": True,
        "dropout": 0.0,
        "attend": "window",
    }
    write_json(tmp_path / "model.json", {"model": before, "vocab_size": 9})
    model, _ = read_shape(tmp_path)
    assert (model.kv_heads, model.qkv_bias, model.experts, model.window) == (4, True, 0, 0)


def test_what_an_artifact_says_is_not_changed_by_its_preset() -> None:
    record = {"preset": "llama", "depth": 1, "width": 8, "heads": 4, "hidden": 8, "kv_heads": 4}
    assert model_from_json(record).kv_heads == 4
    assert with_preset({**record, "rope": {"base": 7.0}})["rope"]["base"] == 7.0
