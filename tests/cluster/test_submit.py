"""Following a job over connections that break, and a head that is not ready yet."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from cluster import submit
from cluster.access import AccessError, Door
from cluster.submit import Jobs, LostContact, patiently

LOG = "one\ntwo\nthree\n"


class Client:
    """Ray's, of a job whose log comes in these connections; the last ends as it should."""

    def __init__(self, *connections: list[str]) -> None:
        self.connections = list(connections)
        self.statuses = ["RUNNING"] * (len(connections) - 1) + ["SUCCEEDED"]

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        if not self.connections:
            raise RuntimeError("nobody answers")
        for piece in self.connections.pop(0):
            if piece == "breaks":
                raise RuntimeError("the connection broke")
            yield piece

    def get_job_info(self, job: str) -> Any:
        if not self.statuses:
            raise RuntimeError("nobody answers")
        return SimpleNamespace(
            submission_id=job,
            status=SimpleNamespace(value=self.statuses.pop(0)),
            entrypoint="",
            metadata=None,
            runtime_env=None,
            message=None,
            driver_exit_code=None,
            start_time=0,
            end_time=None,
        )

    def get_job_logs(self, job: str) -> str:
        return LOG


def jobs(client: Client) -> Jobs:
    made = Jobs.__new__(Jobs)
    made.door, made.client = Door("http://h:1", {}, "2.60.0"), client  # type: ignore[assignment]
    return made


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit.time, "sleep", lambda _: None)


def test_a_connection_that_breaks_repeats_nothing_and_loses_nothing() -> None:
    client = Client(
        ["one\n", "tw", "breaks"], ["one\ntwo\nth", "breaks"], ["one\n", "two\nthree\n"]
    )
    client.statuses = ["SUCCEEDED"]
    assert "".join(jobs(client).follow("x")) == LOG


def test_what_the_last_connection_did_not_bring_is_fetched() -> None:
    assert "".join(jobs(Client(["one\n"])).follow("x")) == LOG


def test_following_begins_behind_what_was_seen() -> None:
    assert "".join(jobs(Client(["one\ntwo\n", "three\n"])).follow("x", seen=4)) == "two\nthree\n"


def test_silence_ends_the_following_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "LOST_S", 0.0)
    client = Client(["one\n", "breaks"])
    client.statuses = []
    with pytest.raises(LostContact, match="http://h:1: no contact"):
        list(jobs(client).follow("x"))


def test_a_head_that_is_not_ready_is_asked_again() -> None:
    answers = ["No available agent to submit job, please try again later.", "bad request"]

    def start() -> str:
        raise RuntimeError(answers.pop(0))

    with pytest.raises(RuntimeError, match="bad request"):
        patiently(start)


def test_errors_of_the_cluster_are_one_line() -> None:
    client = Client([])
    client.statuses = []
    with pytest.raises(AccessError, match=r"^http://h:1: nobody answers$"):
        jobs(client).look("x")
