"""Older specs are told apart and rewritten as little as can be; newer ones are refused."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.load import load
from jobs.migrate import migrated
from llm.errors import SpecError

OLD = """\
# my run
name: old   # a name
data: {shards: text}

stages:
  tokenizer: {kind: tokenizer}
  pretrain:         # takes a night
    kind: pretrain
    tokenizer: tokenizer
    checkpoint:
      keep: 3       # disk is cheap
  sft: {kind: sft, from: pretrain, data: [{shards: chats}], checkpoint: {every: 5, keep: 1}}
"""

NEW = """\
# my run
version: 1
name: old   # a name
data: {shards: text}

stages:
  tokenizer: {kind: tokenizer}
  pretrain:         # takes a night
    kind: pretrain
    tokenizer: tokenizer
    checkpoint:
      keep: {last: 3}       # disk is cheap
  sft: {kind: sft, from: pretrain, data: [{shards: chats}], checkpoint: {every: 5, keep: {last: 1}}}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(OLD)
    return Path("x.yaml")


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["migrate", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_an_older_spec_is_refused_with_its_lines_and_the_command(file: Path) -> None:
    with pytest.raises(SpecError) as error:
        load(str(file))
    first, second = str(error.value).splitlines()
    assert first == (
        "x.yaml:11: stages.pretrain.checkpoint.keep: a number alone was how many are kept before "
        "version 1; write {last: 3}, or run python -m jobs migrate x.yaml --write"
    )
    assert second.startswith("x.yaml:12: stages.sft.checkpoint.keep: ")


def test_an_override_in_the_old_form_is_told_the_new_one(file: Path) -> None:
    file.write_text(NEW)
    with pytest.raises(SpecError, match=r"before version 1; write \{last: 2\}$"):
        load(str(file), ["stages.pretrain.checkpoint.keep=2"])


def test_it_shows_a_diff_and_changes_nothing_unless_told(file: Path) -> None:
    code, said, _ = invoke("x.yaml")
    assert code == 0 and file.read_text() == OLD
    assert "\n-      keep: 3       # disk is cheap\n" in said
    assert "\n+      keep: {last: 3}       # disk is cheap\n" in said
    assert said.startswith("--- x.yaml\n+++ x.yaml (version 1)\n@@ ")
    assert said.endswith("Next: python -m jobs migrate x.yaml --write\n")


def test_written_it_is_the_same_file_but_for_what_is_old(file: Path) -> None:
    file.chmod(0o640)
    code, said, _ = invoke("x.yaml", "--write")
    assert (code, file.read_text()) == (0, NEW)
    assert said.endswith("x.yaml is of version 1 now\n")
    assert file.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in Path().iterdir()] == ["x.yaml"], "nothing else is left"
    stage = load("x.yaml").stages["pretrain"]
    assert stage.checkpoint.keep.last == 3 and stage.checkpoint.keep.best  # type: ignore[union-attr]


def test_twice_is_once(file: Path) -> None:
    assert migrated(NEW, "x.yaml") == NEW
    file.write_text(NEW)
    assert invoke("x.yaml", "--write") == (0, "x.yaml is of version 1, nothing to do\n", "")


def test_a_file_with_other_mistakes_stays_as_it_is(file: Path) -> None:
    broken = OLD.replace("kind: tokenizer}", "kind: tokenizer, vocabsize: 3}")
    file.write_text(broken)
    code, _, said = invoke("x.yaml", "--write")
    assert code == 2 and file.read_text() == broken
    assert said.startswith("x.yaml:6: stages.tokenizer.vocabsize: unknown key; did you mean 'voc")


def test_what_carries_an_anchor_is_left_to_the_user(file: Path) -> None:
    shared = OLD.replace("keep: 3 ", "keep: &kept 3 ").replace("keep: 1", "keep: *kept")
    with pytest.raises(SpecError, match=r"x\.yaml:1\d: '&kept 3' has an anchor.*write \{last: 3\}"):
        migrated(shared, "x.yaml")


def test_line_ends_and_layout_are_kept() -> None:
    assert migrated(OLD.replace("\n", "\r\n"), "x.yaml") == NEW.replace("\n", "\r\n")
    flow = "{name: a, data: {shards: t}, stages: {t: {kind: tokenizer}, p: {kind: pretrain, "
    old = f"{flow}tokenizer: t, checkpoint: {{keep: 2}}}}}}}}"
    assert migrated(old, "x") == old.replace("{name", "{version: 1, name").replace("2", "{last: 2}")


def test_through_a_link_the_file_itself_is_rewritten(file: Path) -> None:
    Path("link.yaml").symlink_to(file)
    assert invoke("link.yaml", "--write")[0] == 0
    assert Path("link.yaml").is_symlink() and file.read_text() == NEW


def test_a_newer_spec_is_refused_for_that_alone(file: Path) -> None:
    file.write_text(NEW.replace("version: 1", "version: 2\nlater: {what: ever}"))
    for command in ("check", "migrate"):
        result = CliRunner().invoke(app, [command, "x.yaml"])
        assert (result.exit_code, result.stderr) == (
            2,
            "x.yaml:2: version: 2 is newer than this program, which reads specs up to 1; install a "
            "newer humpty\n",
        )


def test_a_version_that_never_was_is_refused(file: Path) -> None:
    file.write_text(NEW.replace("version: 1", "version: 0"))
    with pytest.raises(SpecError, match="version: 0 is not allowed; must be"):
        load(str(file))
