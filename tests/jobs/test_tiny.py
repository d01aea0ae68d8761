"""The tiny twins of jobs/chatgpt.yaml as they are shipped, run as a user runs them.

Minutes each, so left out unless asked for: `make twins`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.lineage import in_order, lineage

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]


def whole(twin: str, storage: Path, *overrides: str) -> Path:
    """Run it to its end; the run's folder."""
    file = f"jobs/tiny/{twin}.yaml"
    command = [sys.executable, "-m", "jobs", "run", file, f"storage={storage}", *overrides]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert f"python -m jobs serve {file}" in ended.stdout.replace("\n", " ")
    return storage / twin


def measured(folder: Path) -> dict[tuple[str, str, str], float]:
    """Figures of the evaluation, by model, task and metric."""
    [file] = folder.glob("evaluate/*/evaluation.json")
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"]
    return {(row["model"], row["task"], row["metric"]): row["value"] for row in rows}


def require_aligned(folder: Path) -> None:
    """The reward model sides with people, PPO earned reward, everything leads back to its data."""
    figures = measured(folder)
    assert {model for model, *_ in figures} == {"ppo", "sft", "pretrain"}
    [reward] = folder.glob("reward/*/manifest.json")
    assert json.loads(reward.read_text())["metrics"]["low"] > 0.5
    assert figures["ppo", "wins-over-pretrain", "win_rate"] > 0.5
    [made] = folder.glob("evaluate/*/evaluation.json")
    assert not any(link.broken for link in in_order(lineage(str(made.parent), [])))
    assert (folder / "report.html").stat().st_size > 100_000


def test_english(tmp_path: Path) -> None:
    folder = whole("chatgpt_en", tmp_path)
    require_aligned(folder)
    assert measured(folder)["pretrain", "corpus-python", "bits_per_byte"] < 3


def test_chinese(tmp_path: Path, shared_data: Path) -> None:
    chats = f"{shared_data}/c_sft/alpaca_zh_demo.json"
    pairs = f"{shared_data}/d_pref/dpo_zh_demo.json"
    folder = whole(
        *("chatgpt_zh", tmp_path),
        f"stages.corpus.sources.text.shards={shared_data}/a_pretrain/zh/sanguo.txt",
        f"stages.sft.data.0.shards={chats}",
        f"stages.reward.data.0.shards={pairs}",
        f"stages.ppo.data.0.shards={chats}",
        f"stages.evaluate.tasks.preferred.shards={pairs}",
        f"stages.evaluate.wins.shards={chats}",
    )
    figures = measured(folder)
    assert {model for model, *_ in figures} == {"ppo", "sft", "pretrain"}
    assert figures["pretrain", "corpus-text", "bits_per_byte"] < 4
    assert (folder / "report.html").stat().st_size > 100_000
