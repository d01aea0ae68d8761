"""PPO under Ray takes the steps of plain python, whether its roles live together or apart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

import cluster.ppo
from cluster.config import ClusterConfig
from cluster.ppo import Crew, Remote, hire, own_share, ppo
from llm.align_config import ActorsConfig
from llm.artifact import read_model
from llm.errors import SpecError, TrainingError
from llm.metrics import Event
from llm.ppo_task import PpoTask, read_ppo_task
from llm.roles import Manner
from llm.world import CPU, World
from tests.ppo_tasks import run_ppo, steps_of, write_ppo_task

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def run_ray(task: PpoTask, folder: Path, workers: int = 1, watch: Any = lambda _: None) -> Event:
    folder.mkdir(exist_ok=True)
    config = ClusterConfig(workers=workers, cpus_per_worker=1)
    return ppo(replace(task, folder=str(folder)), config, watch)


def apart(task: PpoTask, **actors: Any) -> PpoTask:
    return replace(task, config=replace(task.config, actors=ActorsConfig(**actors)))


def assert_same_steps(one: Path, two: Path) -> None:
    for a, b in zip(steps_of(one), steps_of(two), strict=True):
        assert b == pytest.approx(a, abs=1e-5, rel=1e-5)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training whose judges are models, run in plain python, its task beside it."""
    folder = tmp_path_factory.mktemp("ppo")
    path = write_ppo_task(folder, steps=5, model_judges=True, compare=True, even=False)
    run_ppo(path, folder / "plain")
    return folder


def test_roles_together_take_the_steps_of_plain_python(
    ray_cluster: None, plain: Path, tmp_path: Path
) -> None:
    run_ray(read_ppo_task(plain / "task.json"), tmp_path / "together")
    assert_same_steps(plain / "plain", tmp_path / "together")


def test_roles_apart_do_too_and_actors_that_are_killed_cost_no_step(
    ray_cluster: None, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hired: list[Crew] = []

    def hire_and_tell(*arguments: Any) -> Crew:
        hired.append(hire(*arguments))
        return hired[-1]

    def kill_at_2(event: Event) -> None:
        if event["event"] == "step" and event["step"] == 2:
            for actor in (*hired[0].writers, *hired[0].judges):
                ray.kill(actor, no_restart=False)

    monkeypatch.setattr(cluster.ppo, "hire", hire_and_tell)
    task = apart(read_ppo_task(plain / "task.json"), writers=2, judges=1)
    run_ray(task, tmp_path / "apart", watch=kill_at_2)
    assert len(hired) == 1
    assert_same_steps(plain / "plain", tmp_path / "apart")


def test_two_workers_share_a_writer_and_a_judge(ray_cluster: None, tmp_path: Path) -> None:
    path = write_ppo_task(tmp_path, steps=4, even=False)
    run_ppo(path, tmp_path / "plain")
    run_ray(apart(read_ppo_task(path)), tmp_path / "apart", workers=2)
    assert_same_steps(tmp_path / "plain", tmp_path / "apart")


def test_all_that_actors_bring_back_comes_in_order_and_is_a_sign_of_life(
    ray_cluster: None, plain: Path
) -> None:
    @ray.remote(num_cpus=0)
    class Echo:
        def write(self, _: Any, prompts: list, *__: Any) -> list:
            return prompts

    policy, _ = read_model(Path(read_ppo_task(plain / "task.json").policy))
    beats: list[None] = []
    prompts = [[number] for number in range(150)]
    remote = Remote([Echo.remote(), Echo.remote()], [], policy, lambda: beats.append(None))
    assert remote.write(prompts, [(0, 0, 0)] * 150, Manner(0, (), 8, 1.0)) == prompts
    assert len(beats) == 4  # 64 and 11 of each writer


def test_a_rule_that_fails_in_an_actor_is_told_as_it_is(ray_cluster: None, tmp_path: Path) -> None:
    place = tmp_path / "rewards.py"
    place.write_text("def broken(prompt, answer, reference):\n    return 1 / 0\n")
    task = read_ppo_task(write_ppo_task(tmp_path / "task", rule=f"{place}:broken"))
    with pytest.raises(TrainingError, match=r"^rule: .*broken failed on the answer"):
        run_ray(apart(task), tmp_path / "run")


def test_what_cannot_start_is_said_at_once(ray_cluster: None, tmp_path: Path) -> None:
    task = read_ppo_task(write_ppo_task(tmp_path / "task"))
    with pytest.raises(SpecError, match=r"90 writers and 1 judges besides 1 workers need 92 CPUs"):
        run_ray(apart(task, writers=90), tmp_path / "run")
    missing = replace(task, config=replace(task.config, rule="nowhere.py:rule"))
    with pytest.raises(SpecError, match=r"nowhere\.py cannot be loaded"):
        run_ray(missing, tmp_path / "run")


@pytest.mark.parametrize(
    ("actors", "size", "shares"),
    [(3, 1, ["abc"]), (3, 2, ["ac", "b"]), (1, 3, ["a", "a", "a"]), (2, 3, ["a", "b", "a"])],
)
def test_actors_are_dealt_to_workers(actors: int, size: int, shares: list[str]) -> None:
    dealt = [own_share(list("abc")[:actors], World(rank, size, CPU)) for rank in range(size)]
    assert ["".join(share) for share in dealt] == shares
