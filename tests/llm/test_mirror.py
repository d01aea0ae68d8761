"""A run whose folder is lost goes on from its mirror: a folder, or a bucket of a local server."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm import checkpoint, events
from llm.errors import ArtifactError
from llm.filesystem import connect
from llm.metrics import Event
from llm.outside import Outside
from llm.saver import Saver
from tests.falls import Fall, digest, killed
from tests.s3 import s3_server
from tests.saved import State, loaded, position, save, saver
from tests.tasks import losses, run_plain, write_task


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a local S3 server, as the options of its URIs name it."""
    with s3_server("mirror") as (_, options):
        yield options


@pytest.fixture(params=["folder", "bucket"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for copies."""
    if request.param == "folder":
        return str(tmp_path / "mirror")
    return f"s3://mirror/{tmp_path.name}{request.getfixturevalue('bucket')}"


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """Of a run as it lies on storage."""
    return tmp_path / "runs" / "egg" / "pretrain" / "abc123"


def files(mirror: str) -> list[str]:
    """What is on the mirror, below the artifact's copy."""
    if "://" not in mirror:
        root = Path(mirror) / "egg/pretrain/abc123"
        return sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())
    system = connect(mirror)
    root = f"{system.path(mirror)}/egg/pretrain/abc123/"
    return sorted(path.removeprefix(root) for path in system.client.find(root))


def restored(artifact: Path, mirror: str) -> int | None:
    """The step from which a run goes on, all of it checked."""
    state = State()
    found = saver(artifact, mirror=mirror).restore(state.model, state.optimizer)
    assert found is None or found == position(state.step())
    return found and found.step


def begun(artifact: Path, mirror: str, *steps: int) -> Saver:
    """A run that has a ledger and has saved some steps."""
    to = saver(artifact, mirror=mirror, keep={"last": 2})
    (artifact / "order.tsv").write_text("ledger\n" * steps[-1])
    save(to, State(), *steps)
    return to


def test_the_mirror_holds_what_is_kept_and_the_records_of_the_run(
    mirror: str, artifact: Path
) -> None:
    begun(artifact, mirror, 1, 2, 3)
    checkpoints = [
        f"checkpoints/step-{step:06d}/{name}"
        for step in (2, 3)
        for name in ("manifest.json", "model.safetensors", "optimizer.safetensors", "state.json")
    ]
    assert files(mirror) == [*checkpoints, "metrics.jsonl", "order.tsv"]


def test_a_lost_folder_is_fetched_with_its_records(mirror: str, artifact: Path) -> None:
    begun(artifact, mirror, 1, 2, 3)
    ledger, logged = (artifact / "order.tsv").read_text(), (artifact / "metrics.jsonl").read_text()
    shutil.rmtree(artifact)
    assert restored(artifact, mirror) == 3
    assert (artifact / "order.tsv").read_text() == ledger
    assert (artifact / "metrics.jsonl").read_text() in logged  # it was mirrored before its event
    assert [event["event"] for event in events.read(artifact)] == ["fetched"]
    shutil.rmtree(artifact.parent.parent.parent)
    assert loaded(artifact, State()) is None  # who asks for no mirror gets none


def test_an_older_copy_of_the_folder_catches_up(
    mirror: str, artifact: Path, tmp_path: Path
) -> None:
    to = begun(artifact, mirror, 1)
    shutil.copytree(artifact, tmp_path / "backup")
    (artifact / "order.tsv").write_text("ledger\n" * 5)
    save(to, State(), 5)
    shutil.rmtree(artifact)
    shutil.copytree(tmp_path / "backup", artifact)
    assert restored(artifact, mirror) == 5
    assert (artifact / "order.tsv").read_text() == "ledger\n" * 5


def test_a_damaged_checkpoint_is_mended_from_the_mirror(mirror: str, artifact: Path) -> None:
    begun(artifact, mirror, 1, 2)
    (artifact / "checkpoints" / "step-000002" / "model.safetensors").write_bytes(b"")
    longer = (artifact / "order.tsv").read_text() + "ledger\n"
    (artifact / "order.tsv").write_text(longer)
    assert restored(artifact, mirror) == 2
    assert [event["event"] for event in events.read(artifact)] == ["damaged", "fetched"]
    assert (artifact / "order.tsv").read_text() == longer
    assert checkpoint.damage(artifact / "checkpoints" / "step-000002") is None


def test_what_is_damaged_on_the_mirror_is_not_used(artifact: Path, tmp_path: Path) -> None:
    mirror = str(tmp_path / "mirror")
    begun(artifact, mirror, 1, 2)
    there = tmp_path / "mirror/egg/pretrain/abc123/checkpoints"
    (there / "step-000002" / "optimizer.safetensors").write_bytes(b"half")
    shutil.rmtree(artifact)
    assert restored(artifact, mirror) == 1
    assert not list((artifact / "checkpoints").glob(".*"))


def test_a_checkpoint_without_its_manifest_is_no_checkpoint(mirror: str, artifact: Path) -> None:
    begun(artifact, mirror, 1, 2)
    manifest = "egg/pretrain/abc123/checkpoints/step-000002/manifest.json"
    if "://" in mirror:
        system = connect(mirror)
        system.client.rm_file(f"{system.path(mirror)}/{manifest}")
    else:
        (Path(mirror) / manifest).unlink()
    shutil.rmtree(artifact)
    assert restored(artifact, mirror) == 1


def test_a_mirror_that_fails_is_a_warning_and_the_next_save_catches_up(
    artifact: Path, tmp_path: Path
) -> None:
    place = tmp_path / "mirror"
    place.write_text("a file where a folder should be")
    heard: list[Event] = []
    to = saver(artifact, Outside(heard.append), mirror=str(place), keep={"last": 2})
    save(to, State(), 1, 2)
    kinds = [event["event"] for event in heard]
    assert kinds == ["checkpoint", "mirror_failed", "checkpoint"]
    assert "checkpoint.mirror: " in heard[1]["why"] and "cannot be written" in heard[1]["why"]
    place.unlink()
    save(to, State(), 3)
    assert {name.split("/")[1] for name in files(str(place)) if "/" in name} == {
        "step-000002",
        "step-000003",
    }


def test_a_mirror_that_cannot_be_read_does_not_let_a_run_begin_again(artifact: Path) -> None:
    nowhere = "s3://mirror/x?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1"
    nowhere += "&connect_timeout=1&retry_max_attempts=1"
    with pytest.raises(ArtifactError, match=r"checkpoint\.mirror: s3://mirror/x.*cannot be read"):
        restored(artifact, nowhere)


def test_a_mirror_that_cannot_be_read_matters_little_to_a_run_that_has_its_own(
    artifact: Path, tmp_path: Path
) -> None:
    save(saver(artifact), State(), 1)
    (tmp_path / "mirror").write_text("a file where a folder should be")
    assert restored(artifact, str(tmp_path / "mirror" / "below")) == 1
    assert [event["event"] for event in events.read(artifact)] == ["mirror_failed"]


def test_a_training_whose_folder_is_lost_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    task = write_task(tmp_path, steps=12, save_every=4)
    run_plain(task, tmp_path / "whole")
    record = json.loads(task.read_text())
    record["train"]["checkpoint"]["mirror"] = str(tmp_path / "mirror")
    task.write_text(json.dumps(record))
    assert killed(Fall("update", 10), run_plain, task, tmp_path / "fallen")
    shutil.rmtree(tmp_path / "fallen")
    run_plain(task, tmp_path / "fallen")
    assert "fetched" in [event["event"] for event in events.read(tmp_path / "fallen")]
    assert losses(tmp_path / "fallen") == losses(tmp_path / "whole")
    for name in ("order.tsv", "model.safetensors"):
        assert digest(tmp_path / "fallen" / name) == digest(tmp_path / "whole" / name)
