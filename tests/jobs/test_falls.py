"""The driver is killed, stopped and started twice; the same command makes the same models.

One story is told once, of a driver that falls in every kind of stage, and the tests look at what
is left of it. `-m chaos` tells a longer one: kills at random moments until all is done.
"""

import random
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from llm.checkpoint import newest
from llm.falls import account_of
from tests.driving import MORE, SPEC, Place, Ran, after, until
from tests.tasks import losses

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]


@dataclass
class Story:
    """What happened to a place while another was left in peace."""

    quiet: Place
    place: Place
    killed_at: int
    """Step of the pretraining."""
    second: Ran
    """Of two runs at once."""
    first: int
    """Its pid."""
    stopped: Ran
    saved: str
    """The newest checkpoint then."""
    last: Ran


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> Story:
    """Killed in the corpus, the pretraining and PPO; run twice at once and stopped between.

    The first two drivers have clusters of their own, which fall with them; the others share one.
    """
    folder, moments = tmp_path_factory.mktemp("falls"), random.Random(6)
    shared = ray.get_runtime_context().gcs_address
    quiet, place = Place(folder / "quiet", shared).write(), Place(folder / "place").write()
    ran = quiet.end(quiet.start())
    assert ran.code == 0, ran.errors

    seconds = moments.uniform(0, quiet.manifest("corpus")["seconds"] / 2)
    place.kill_when(after(seconds, lambda: place.begun("corpus") > 0))

    def kill_in(stage: str) -> None:
        steps = quiet.step(stage)
        far = moments.randrange(steps // 8, steps // 3)
        place.kill_when(lambda: place.step(stage) >= far)

    kill_in("pretrain")
    killed_at = place.step("pretrain")
    place.cluster = shared

    driver, begun = place.start(), place.begun("pretrain")
    until(lambda: place.begun("pretrain") > begun, driver)
    second = place.end(place.start("second"), "second")
    until(lambda: place.attempts("pretrain") > 1, driver)
    driver.send_signal(signal.SIGTERM)
    stopped = place.end(driver)
    saved = newest(place.made("pretrain") / "checkpoints")
    assert saved

    kill_in("ppo")
    last = place.end(place.start())
    return Story(quiet, place, killed_at, second, driver.pid, stopped, saved.name, last)


def test_every_stage_ends_with_what_an_undisturbed_run_makes(story: Story) -> None:
    assert story.last.code == 0, story.last.errors
    assert story.place.results() == story.quiet.results()
    for stage in ("pretrain", "sft"):
        assert losses(story.place.made(stage)) == losses(story.quiet.made(stage))


def test_no_finished_stage_is_made_again(story: Story) -> None:
    stages = {path.parent.parent.name for path in story.place.finished}
    assert stages == {"corpus", "tokenizer", "corpus.tokenizer", "pretrain", "sft"}
    assert story.place.made_again() == []


def test_a_second_run_is_refused_and_the_first_goes_on(story: Story) -> None:
    assert story.second.code == 1
    assert "another run works on this stage" in story.second.errors
    assert f"kill {story.first} on" in story.second.errors
    assert "Traceback" not in story.second.errors


def test_sigterm_saves_and_tells_how_to_go_on(story: Story) -> None:
    step = int(story.saved.removeprefix("step-"))
    assert story.stopped.code == 130, story.stopped.errors
    assert f"stopped after step {step}, which is saved" in story.stopped.errors
    assert "stopping: " in story.stopped.out
    assert "; once more ends at once\n" in story.stopped.out
    assert f"python -m jobs run {story.place.folder / 'spec.yaml'}" in story.stopped.errors
    assert "Traceback" not in story.stopped.errors


def test_falls_are_counted_and_told_and_a_stop_is_none(story: Story) -> None:
    [fall] = account_of(story.place.made("pretrain")).falls
    assert fall.step is not None and fall.step >= story.killed_at  # workers live on for a second
    metrics = story.place.manifest("pretrain")["metrics"]
    assert metrics["falls"] == 1 and 0 <= metrics["redone"] <= fall.step
    assert metrics["lost_seconds"] > 0 and 0 < metrics["goodput"] < 1
    assert "the run ended without a word" in fall.cause
    assert story.last.out.count("fell 1 time") >= 2  # in pretraining and PPO
    report = (story.place.made("pretrain") / "report.html").read_text()
    assert "<h2>Falls</h2>" in report
    quiet = story.quiet.manifest("pretrain")["metrics"]
    assert quiet["falls"] == quiet["redone"] == quiet["lost_seconds"] == 0
    assert 0 < quiet["goodput"] <= 1


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [1, 2])
def test_a_driver_killed_twice_in_every_kind_of_stage(seed: int, tmp_path: Path) -> None:
    moments, spec = random.Random(seed), SPEC + MORE
    quiet, place = Place(tmp_path / "quiet").write(spec), Place(tmp_path / "place").write(spec)
    ran = quiet.end(quiet.start())
    assert ran.code == 0, ran.errors
    for stage in quiet.stages:
        for _ in range(2):
            place.kill_within(stage, moments.uniform(0, 4 + quiet.manifest(stage)["seconds"]))
    ended = place.end(place.start())
    assert ended.code == 0, ended.errors
    assert place.results() == quiet.results()
    assert place.made_again() == []
