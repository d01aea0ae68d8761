"""A small chain of finished stages on disk, as a run leaves it, without running one."""

import json
from pathlib import Path
from typing import Any

from jobs.facts import gather
from jobs.inputs import inputs_of
from jobs.load import load
from jobs.plan import resolve
from jobs.spec import Spec

SPEC = """\
name: small
seed: 7
storage: runs
data: {shards: text.txt}
stages:
  tokenizer: {kind: tokenizer, vocab_size: 300}
  pretrain: {kind: pretrain, tokenizer: tokenizer, model: {depth: 2}, steps: 100, batch: 12}
  generate: {kind: generate, from: pretrain, prompts: Once}
"""

TEXT = "Once upon a time.\n" * 50

CODE = {"commit": "0123456789ab", "python": "3.11.7", "humpty": "0.1.0"}


def write_spec(folder: Path) -> str:
    """The file, and the text that it reads."""
    (folder / "x.yaml").write_text(SPEC)
    (folder / "text.txt").write_text(TEXT)
    return str(folder / "x.yaml")


def make(file: str, *overrides: str, metrics: dict[str, dict[str, Any]] | None = None) -> Spec:
    """Put down the manifests that a run would; figures by stage."""
    spec = load(file, overrides)
    facts = gather(spec)
    for at, stage in enumerate(resolve(spec, facts).stages):
        if stage.folder is None:
            continue  # it is started, not made
        manifest = {
            **stage.manifest,
            "inputs": inputs_of(stage.name, stage.written, facts),
            "metrics": (metrics or {}).get(stage.name, {}),
            **{"seconds": 1.5, "code": CODE, "at": 1.8e9 + at, "host": "here"},
        }
        stage.folder.mkdir(parents=True, exist_ok=True)
        (stage.folder / "manifest.json").write_text(json.dumps(manifest))
    return spec


def artifact(spec: Spec, stage: str) -> Path:
    """The one artifact of a stage."""
    [folder] = (spec.folder / stage).iterdir()
    return folder


def rewrite(folder: Path, **changed: Any) -> None:
    """Other values in a manifest, as somebody's hand would leave them."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
