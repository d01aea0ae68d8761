"""Hosts with addresses of their own: they train together, a cable is cut, disks are not shared."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.rehearsal import NOTICES_FAST
from cluster.watchdog import SILENT_S
from llm.events import read
from llm.step_log import NAME
from tests.drive import Driver
from tests.hosts import Hosts, hosts
from tests.tasks import losses, run_plain, write_task, write_text

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos]

STEPS, EVERY = 40, 5

LIMIT_S = 8.0
"""Of a watchdog that is faster than Ray, which takes 16 s by its own settings."""

LATE_S = 10.0
"""Seconds from the watchdog's limit until its group is gone and the driver has said it."""


@contextmanager
def two_hosts(settings: dict[str, int]) -> Iterator[Hosts]:
    """A head, and two hosts of room for a worker each; the first has a CPU more, for the stream."""
    with hosts() as cluster:
        cluster.start_head(json.dumps(settings))
        cluster.start("anna", 3)
        cluster.start("berta", 2)
        yield cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Hosts]:
    """Whose head notices soon that a host is gone."""
    with two_hosts(NOTICES_FAST) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training in plain python, with its task beside it."""
    folder = tmp_path_factory.mktemp("hosts")
    run_plain(write_task(folder, steps=STEPS, save_every=EVERY), folder / "plain")
    return folder


def train_over_a_cut(
    cluster: Hosts, undisturbed: Path, folder: Path, **config: float
) -> tuple[list[str], float]:
    """Train while berta's cable is cut, and mended when berta is missed; the falls' causes, and
    the seconds from the cut until it was noticed."""
    driver = Driver(
        undisturbed / "task.json",
        folder,
        cluster.environment,
        before=cluster.on("head"),
        workers=2,
        cpus_per_worker=2,
        pace=0.1,
        **config,
    )
    cut = noticed = back = 0.0
    causes = []
    for event in driver.events():
        if event["event"] == "step" and event["step"] == 12 and not cut:
            cluster.cut("berta")
            cut = time.monotonic()
        if event["event"] == "fall":
            causes.append(event["cause"])
            noticed = noticed or time.monotonic()
        if event["event"] == "waiting":
            cluster.mend("berta")
        if event["event"] == "again":
            back = time.monotonic()
    assert driver.wait() == 0
    print(f"noticed after {noticed - cut:.1f} s, up again after {back - cut:.1f} s: {causes}")
    assert [one["cause"] for one in read(folder) if one["event"] == "fall"]
    assert (folder / NAME).read_bytes() == (undisturbed / "plain" / NAME).read_bytes()
    assert losses(folder) == pytest.approx(losses(undisturbed / "plain"), abs=1e-4)
    return causes, noticed - cut


def test_a_cut_cable_is_noticed_and_named_and_the_training_goes_on_when_it_is_mended(
    cluster: Hosts, undisturbed: Path, tmp_path: Path
) -> None:
    [cause], noticed = train_over_a_cut(cluster, undisturbed, tmp_path)
    assert cause == "rank 1 on berta: its node died"
    assert noticed < SILENT_S + LATE_S


def test_the_watchdog_notices_a_cut_cable_before_ray_does(
    undisturbed: Path, tmp_path: Path
) -> None:
    with two_hosts({}) as cluster:
        causes, noticed = train_over_a_cut(cluster, undisturbed, tmp_path, hang_timeout=LIMIT_S)
    assert "rank 1 on berta silent for 8 s" in causes[0] and "\n" not in causes[0]
    assert noticed < LIMIT_S + LATE_S


SPEC = """\
name: apart
storage: runs
cluster: {workers: 2, cpus_per_worker: 2}
data: {shards: text}
stages:
  tokenizer: {kind: tokenizer, file: t.model}
  pretrain: {kind: pretrain, tokenizer: tokenizer, model: {depth: 1}, steps: 2, batch: 4}
"""


def refused(cluster: Hosts, folder: Path) -> str:
    """What a run on the head says when it is refused."""
    (folder / "x.yaml").write_text(SPEC)
    write_text(folder / "text")
    write_task(folder / "task")
    (folder / "t.model").write_bytes((folder / "task" / "tokenizer.model").read_bytes())
    done = subprocess.run(
        [*cluster.on("head"), sys.executable, "-m", "jobs", "run", "x.yaml"],
        cwd=folder,
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr


def test_a_disk_that_is_not_shared_is_said_before_anything_starts(
    cluster: Hosts, tmp_path: Path
) -> None:
    cluster.start("carla", 2, private=tmp_path)
    lines = refused(cluster, tmp_path).splitlines()
    storage, text = sorted(lines, key=lambda line: "data.shards" in line)
    assert f"x.yaml:2: storage: '{tmp_path}/runs/apart' is not shared between the nodes" in storage
    assert "what the driver has written is not there on carla" in storage
    assert f"x.yaml:4: data.shards: {tmp_path}/text is not there on carla" in text


def test_hosts_that_are_kept_apart_are_named(cluster: Hosts, tmp_path: Path) -> None:
    cluster.forbid("anna", "berta")
    [line] = [one for one in refused(cluster, tmp_path).splitlines() if "cannot reach" in one]
    address = cluster.addresses["berta"]
    assert "x.yaml:3: cluster: anna (10.77.0.2) cannot reach berta" in line
    assert f"Permission denied at {address}:" in line
