"""A venv with TRL and transformers, and one process in it that is asked in turns with ours.

`$HUMPTY_TRL` or ~/.cache/humpty/trl, made when it is not there. The process waits for its input
while ours is measured, so that neither disturbs the other.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

VENV = Path(os.environ.get("HUMPTY_TRL", Path.home() / ".cache/humpty/trl"))
PACKAGES = ("trl==1.12.0", "torch>=2.10,<2.14", "transformers", "accelerate", "datasets")


def trl_python() -> Path:
    """That of the venv, which is made if it is not there."""
    if not (VENV / "bin/python").exists():
        print(f"making {VENV} for TRL")
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        pip = [VENV / "bin/python", "-m", "pip", "install", "--quiet", *PACKAGES]
        subprocess.run(pip, check=True)
    return VENV / "bin/python"


class Peer:
    """A script under that Python, or another one, that answers lines of JSON with lines of JSON."""

    def __init__(
        self, script: str, environment: dict[str, str] | None = None, python: str = ""
    ) -> None:
        self.process = subprocess.Popen(
            [python or trl_python(), Path(__file__).with_name(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"TRL_EXPERIMENTAL_SILENCE": "1"} | (environment or {}),
        )

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Its answer, however long that takes."""
        self.send(question)
        return self.receive()

    def send(self, question: dict[str, Any]) -> None:
        """Ask without waiting."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """The next answer."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith('{"'):  # others are the libraries' own news
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise OSError(f"{self.process.args} ended with status {self.process.wait()}")

    def close(self) -> None:
        """No more questions."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
