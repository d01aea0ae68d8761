"""`python -m jobs serve` as a user has it: it tells where it is, follows newer models, and ends."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from jobs.client import Server, ServerError
from llm.chat import Turn
from tests.deploy.tiny import write_folder

ROOT = Path(__file__).parents[2]

SPEC = """\
name: small
storage: {storage}
data: {{shards: pydoc://}}
stages:
  tokenizer: {{kind: tokenizer, vocab_size: 320}}
  pretrain: {{kind: pretrain, tokenizer: tokenizer, model: {{depth: 2, context: 64}}, steps: 9}}
  serve: {{kind: serve, from: pretrain, port: 0, engine: {{slots: 4, cpus: 1}}}}
"""


class Running:
    """A server in a process of its own; its lines as they come."""

    def __init__(self, *arguments: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobs", "serve", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: Queue[str] = Queue()
        self.said: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def until(self, pattern: str) -> re.Match[str]:
        """The first line from here on in which there is that."""
        while line := self.lines.get(timeout=120):
            self.said.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"it ended without {pattern}: {''.join(self.said)}")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return commit(tmp_path / "runs" / "small" / "pretrain" / "first", at=1.0)


def commit(folder: Path, at: float) -> Path:
    """A model as a stage of that name commits it."""
    write_folder(folder)
    manifest = {
        "kind": "pretrain",
        "fingerprint": folder.name,
        "spec": {"kind": "pretrain"},
        "parents": {},
        "data": {},
        "seed": 0,
        "at": at,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def running(artifact: Path, tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "x.yaml").write_text(SPEC.format(storage=tmp_path / "runs"))
    server = Running(str(tmp_path / "x.yaml"))
    yield server
    if server.process.poll() is None:
        server.process.kill()
    server.process.wait()


@pytest.mark.ray
@pytest.mark.long
def test_it_serves_follows_a_newer_model_and_ends(running: Running, artifact: Path) -> None:
    assert running.until("the spec has changed since first was made")
    url = running.until(r"chat page  (http://127\.0\.0\.1:\d+/#key=hk-\S+)")[1]
    running.until("Ctrl-C ends")
    with pytest.raises(ServerError, match="give it with --key"):
        Server(url.split("#")[0], "hk-wrong", None)
    server = Server(url, None, None)
    assert server.model == "pretrain"
    asked = (Turn("system", "Be kind."), Turn("user", "the king"))
    said = list(server.answer(asked, temperature=0.0, max_completion_tokens=8))
    assert "".join(said)
    with pytest.raises(ServerError, match="temperature"):
        list(server.answer(asked, temperature=-1.0))

    commit(artifact.parent / "second", at=2.0)
    running.until("pretrain: second takes the place of first")
    assert "".join(server.answer(asked, temperature=0.0, max_completion_tokens=8)) == "".join(said)

    running.process.send_signal(signal.SIGTERM)
    running.until("stopped")
    assert running.process.wait(timeout=60) == 0
    assert not any("Traceback" in line for line in running.said)
    with pytest.raises(ServerError, match="is a server running there"):
        list(server.answer(asked))


@pytest.mark.ray
@pytest.mark.long
def test_a_port_in_use_is_said_before_anything_starts(running: Running, tmp_path: Path) -> None:
    running.until("the spec has changed")
    port = running.until(r"API +http://127\.0\.0\.1:(\d+)/v1")[1]
    second = Running(str(tmp_path / "x.yaml"), "--port", port, "--no-auth")
    assert second.until(f"port {port} of 127.0.0.1 cannot be used")
    assert second.process.wait(timeout=60) == 2
