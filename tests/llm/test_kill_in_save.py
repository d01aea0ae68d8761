"""Whenever a saver is killed, no half checkpoint is ever loaded, and the one before always is."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def kills(how: str, artifact: Path) -> int:
    """How often `killed_savers.py` has killed, and found a whole checkpoint after it."""
    run = [sys.executable, "-m", "tests.llm.killed_savers", how, str(artifact)]
    done = subprocess.run(run, check=True, timeout=600, cwd=ROOT, stdout=subprocess.PIPE)
    return int(done.stdout)


@pytest.mark.slow
def test_killed_before_any_call_that_changes_the_disk(tmp_path: Path) -> None:
    assert kills("calls", tmp_path / "run") > 40


@pytest.mark.slow
def test_killed_at_twenty_random_moments_inside_a_save(tmp_path: Path) -> None:
    assert kills("moments", tmp_path / "run") == 20
