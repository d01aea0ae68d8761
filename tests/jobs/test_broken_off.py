"""What Ctrl-C says in a stage that does not save by itself, or for the second time. No Ray."""

from pathlib import Path
from typing import Any

import pytest

from jobs import run as running
from jobs.load import load
from llm.errors import Stopped

SPEC = """\
name: tiny
stages:
  corpus: {kind: corpus, sources: {a: {shards: a.txt}}}
  tokenizer: {kind: tokenizer, corpus: corpus, vocab_size: 300}
  pretrain: {kind: pretrain, corpus: corpus, tokenizer: tokenizer}
"""


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("corpus", "stopped in 'corpus', which goes on behind the portions that are read"),
        ("tokenizer", "stopped in 'tokenizer', which begins anew"),
        ("pretrain", "stopped in 'pretrain', which goes on behind its newest checkpoint"),
    ],
)
def test_ctrl_c_says_what_is_left_of_the_stage(
    at: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def perform(plan: Any, stage: Any, *_: Any) -> None:
        if stage.name == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(running, "perform", perform)
    (tmp_path / "a.txt").write_text("All the king's horses.")
    (tmp_path / "spec.yaml").write_text(SPEC)
    spec = load(str(tmp_path / "spec.yaml"), [f"storage={tmp_path}/runs"])
    with pytest.raises(Stopped) as stopped:
        running.run(spec)
    assert str(stopped.value) == f"{said}; stages that are done are not done again"
    assert stopped.value.exit_code == 130
