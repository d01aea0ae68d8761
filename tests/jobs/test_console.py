"""The console script runs its own packages or none."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_another_package_called_llm_is_named(tmp_path: Path) -> None:
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "__init__.py").touch()
    code = "import sys; sys.path[:0] = sys.argv[1:]; from jobs.console import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(ROOT)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"not humpty's but {tmp_path / 'llm'}" in done.stderr
    assert "Traceback" not in done.stderr
