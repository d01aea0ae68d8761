"""`python -m jobs key`: shown once, kept as a hash in a file of its owner alone."""

import re
from pathlib import Path

from typer.testing import CliRunner

from deploy.keys import KeyRing
from jobs.cli import app

runner = CliRunner()


def test_keys_are_added_to_a_file_and_open_the_door(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    plain = [
        runner.invoke(app, ["key", name, "--file", str(file)]).output.split("\n")[0]
        for name in ("anna", "ben")
    ]
    ring = KeyRing.of_file(file)
    assert [ring.name_of(f"Bearer {one}") for one in plain] == ["anna", "ben"]
    assert not any(one in file.read_text() for one in plain)
    assert file.stat().st_mode & 0o777 == 0o600
    again = runner.invoke(app, ["key", "anna", "--file", str(file)])
    assert again.exit_code == 2
    assert re.search("has a key of 'anna' already; choose another name", again.stderr)
    assert runner.invoke(app, ["key", "a b", "--file", str(file)]).exit_code == 2
