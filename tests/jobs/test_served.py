"""What is served: the model that a spec means, or the newest there is; later ones replace it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.facts import gather
from jobs.load import load
from jobs.plan import resolve
from jobs.served import Start, find
from jobs.serving import keys_of
from llm.errors import ArtifactError, SpecError

SPEC = """\
name: small
cluster: {workers: 2, cpus_per_worker: 1}
data: {shards: text.txt}
stages:
  tokenizer: {kind: tokenizer, vocab_size: 1000}
  pretrain: {kind: pretrain, tokenizer: tokenizer, model: {depth: 2, context: 64}, steps: 9}
  serve: {kind: serve, from: pretrain}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "x.yaml").write_text(SPEC)
    (tmp_path / "text.txt").write_text("Once upon a time.\n" * 50)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HUMPTY_API_KEYS", raising=False)
    return tmp_path


def finished(stage: str, fingerprint: str, at: float) -> Path:
    """An artifact as `jobs.run` commits it."""
    folder = Path("runs/small") / stage / fingerprint
    folder.mkdir(parents=True, exist_ok=True)
    identity: dict[str, Any] = {
        "kind": stage,
        "fingerprint": fingerprint,
        "spec": {"kind": stage},
        "parents": {},
        "data": {},
        "seed": 1,
        "metrics": {"vocab_size": 1000},
        "at": at,
    }
    (folder / "manifest.json").write_text(json.dumps(identity))
    return folder.absolute()


def meant(*overrides: str) -> str:
    """The fingerprint of the pretraining as the spec stands."""
    spec = load("x.yaml", overrides)
    finished("tokenizer", str(resolve(spec, gather(spec)).by_name["tokenizer"].fingerprint), 1.0)
    return str(resolve(spec, gather(spec)).by_name["pretrain"].fingerprint)


def test_without_a_model_the_remedy_is_told(here: Path) -> None:
    with pytest.raises(
        ArtifactError, match="stage 'pretrain' has no finished model yet; first run"
    ):
        find(Start("x.yaml"))


def test_the_model_of_the_spec_is_served_though_there_are_newer_ones(here: Path) -> None:
    folder = finished("pretrain", meant(), at=10.0)
    finished("pretrain", "of-another-spec", at=5.0)
    serving = find(Start("x.yaml"))
    assert [(one.id, one.folder, one.owner) for one in serving.newest()] == [
        ("pretrain", str(folder), "small")
    ]
    assert serving.notes == ()
    assert serving.feedback == here / "runs" / "small" / "feedback"


def test_a_model_that_is_finished_later_takes_its_place(here: Path) -> None:
    finished("pretrain", meant(), at=10.0)
    serving = find(Start("x.yaml"))
    serving.newest()
    Path("runs/small/pretrain/unfinished").mkdir()
    later = finished("pretrain", "later", at=11.0)
    assert [one.folder for one in serving.newest()] == [str(later)]
    assert [one.artifact for one in serving.newest()] == ["later"]


def test_an_outdated_model_is_served_with_a_word_about_it(here: Path) -> None:
    old = finished("pretrain", meant(), at=10.0)
    serving = find(Start("x.yaml", ("stages.pretrain.steps=10",)))
    assert [one.folder for one in serving.newest()] == [str(old)]
    assert "pretrain: the spec has changed since" in serving.notes[0]


def test_a_spec_without_a_serve_stage_serves_its_last_model(here: Path) -> None:
    finished("pretrain", meant(), at=10.0)
    without = [line for line in SPEC.splitlines() if "serve" not in line]
    Path("y.yaml").write_text("\n".join(without) + "\n")
    serving = find(Start("y.yaml", port=0, no_auth=True))
    assert [one.id for one in serving.newest()] == ["pretrain"]
    assert (serving.config.port, serving.config.auth) == (0, False)
    assert serving.config.engine.tokens == 16 * 64


def test_the_command_line_is_held_to_the_rules_of_the_file(here: Path) -> None:
    finished("pretrain", meant(), at=10.0)
    with pytest.raises(SpecError, match=r"auth: false is not allowed with host 0\.0\.0\.0"):
        find(Start("x.yaml", ("stages.serve.host=0.0.0.0",), no_auth=True))
    with pytest.raises(SpecError, match="'sreve' is no serve stage; there are: serve"):
        find(Start("x.yaml", stage="sreve"))


def test_a_folder_is_served_with_the_defaults(here: Path) -> None:
    folder = here / "made" / "sft" / "abc"
    folder.mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"is no model: it has no model\.safetensors"):
        find(Start(str(folder)))
    for name in ("model.safetensors", "tokenizer.model"):
        (folder / name).write_bytes(b"")
    shape = {"depth": 1, "width": 16, "heads": 1, "hidden": 16, "context": 32}
    (folder / "model.json").write_text(json.dumps({"model": shape, "vocab_size": 300}))
    serving = find(Start(str(folder)))
    assert [(one.id, one.artifact) for one in serving.newest()] == [("sft", "abc")]
    assert serving.config.engine.tokens == 16 * 32
    assert serving.config.engine.cpus == os.cpu_count()


def test_keys_come_from_the_file_the_environment_or_are_made(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished("pretrain", meant(), at=10.0)
    serve: Callable[..., Any] = lambda *overrides: find(Start("x.yaml", overrides))  # noqa: E731
    spec, plain = keys_of(serve())
    assert spec is not None and len(spec.hashes) == 1 and plain is not None
    assert plain.startswith("hk-") and plain not in spec.hashes[0]
    monkeypatch.setenv("HUMPTY_API_KEYS", "a-long-enough-key-of-mine")
    spec, plain = keys_of(serve())
    assert spec is not None and spec.hashes[0].startswith("sha256:") and plain is None
    with pytest.raises(SpecError, match=r"keys: .*none.txt cannot be read"):
        keys_of(serve("stages.serve.keys=none.txt"))
    assert keys_of(serve("stages.serve.auth=false")) == (None, None)
