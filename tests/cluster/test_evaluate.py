"""Models asked by actors say what they say here, also if an actor dies meanwhile."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from cluster.config import ClusterConfig
from cluster.evaluate import PORTIONS, dealt, desks
from llm.continuations import Manner
from llm.errors import ArtifactError
from llm.examinee import Desk, Opening, Request
from tests.deploy.tiny import TEXTS, write_folder


def test_items_of_like_length_go_together_and_a_questions_choices_stay_together() -> None:
    items = [Request(prompt, answer) for prompt in ("a", "abc", "ab") for answer in "xyz"]
    assert dealt(items, 3, 1) == [[3, 4, 5], [6, 7, 8], [0, 1, 2]]
    assert dealt(items, 100, 2) == [[3, 4, 5, 6, 7], [8, 0, 1, 2]]
    assert dealt([], 3, 2) == []


@pytest.mark.ray
@pytest.mark.slow
def test_actors_find_what_one_process_finds_and_a_killed_one_is_asked_again(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PORTIONS, "likelihoods", 5)
    folder = write_folder(tmp_path / "model")
    requests = [Request(text[:n], text[n:]) for text in TEXTS for n in range(1, 12)]
    openings = [Opening(text[:9]) for text in TEXTS]
    here = Desk()
    heard: list[str] = []
    with desks(ClusterConfig(workers=2, cpus_per_worker=1), "fp32", heard.append) as crew:
        assert len(crew.actors) == 2
        assert crew.ask("write", folder, openings, Manner(6)) == here.ask(
            "write", folder, openings, Manner(6)
        )
        killed = kill_one(crew)
        found = crew.ask("likelihoods", folder, requests)
        assert killed not in pids(crew)
        with pytest.raises(ArtifactError):
            crew.ask("texts", tmp_path / "nothing", ["a"])
    for one, other in zip(found, here.ask("likelihoods", folder, requests), strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    assert heard[-1] == "44/44"


def pids(crew: Any) -> list[int]:
    import ray

    return ray.get([actor.__ray_call__.remote(lambda _: os.getpid()) for actor in crew.actors])


def kill_one(crew: Any) -> int:
    """End the process of the first actor, as a power cut does."""
    (pid, *_) = pids(crew)
    os.kill(pid, signal.SIGKILL)
    return pid
