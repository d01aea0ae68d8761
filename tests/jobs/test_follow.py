"""What a terminal shows of a job, and the exit code that comes of it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.submit import Job, LostContact
from jobs.follow import Commands, ending, exit_code, follow, listing, stop
from jobs.inside import SENT

SENT_JOB = Job(
    id="quickstart-1",
    status="RUNNING",
    entrypoint="python -m jobs run x.yaml",
    metadata={SENT: "humpty 1", "run": "quickstart"},
    environment={"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "300"}},
    message="",
    exit_code=None,
    started=0.0,
    ended=None,
)
COMMANDS = Commands("http://h:1")


def ended(status: str, code: int | None = None, message: str = "") -> Job:
    return replace(SENT_JOB, status=status, exit_code=code, message=message, ended=5.0)


class Cluster:
    """One job; `events` are the pieces of its log, or what happens while it is followed."""

    def __init__(self, last: Job, *events: str | BaseException) -> None:
        self.last, self.events = last, events
        self.job = SENT_JOB
        self.asked: list[str] = []

    def follow(self, job: str, seen: int = 0) -> Iterator[str]:
        for event in self.events:
            if isinstance(event, BaseException):
                raise event
            yield event
        self.job = self.last

    def look(self, job: str) -> Job:
        return self.job

    def find(self, name: str) -> Job:
        return self.job

    def all(self) -> list[Job]:
        return [self.job]

    def log(self, job: str) -> str:
        return "line\n"

    def stop(self, job: str) -> None:
        self.asked.append(job)


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (ended("SUCCEEDED", 0), 0),
        (ended("STOPPED"), 130),
        (ended("FAILED", 130), 130),
        (ended("FAILED", 2), 2),
        (ended("FAILED", 1), 1),
        (ended("FAILED", -9), 1),
        (ended("FAILED", 137), 1),
        (ended("FAILED", None, "runtime_env failed"), 1),
    ],
)
def test_the_exit_code_is_the_one_of_a_run_here(job: Job, code: int) -> None:
    assert exit_code(job) == code


def test_an_ending_says_what_to_do() -> None:
    resume = "python -m jobs resume quickstart-1 --address http://h:1"
    assert ending(ended("SUCCEEDED", 0), COMMANDS) == "quickstart-1 has finished"
    assert resume in ending(ended("STOPPED"), COMMANDS)
    assert "exit code 1; mend it" in ending(ended("FAILED", 1), COMMANDS)
    assert "killed by signal 9" in ending(ended("FAILED", -9), COMMANDS)
    assert "killed by signal 9" in ending(ended("FAILED", 137), COMMANDS)
    message = "Failed to set up\nTraceback\n  File x\npip: no such package"
    said = ending(ended("FAILED", None, message), COMMANDS)
    assert "failed: Failed to set up ... pip: no such package" in said
    of_others = replace(ended("STOPPED"), metadata={})
    assert "resume" not in ending(of_others, COMMANDS)


def test_a_job_is_followed_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(Cluster(ended("FAILED", 2), "a\n", "b\n"), "quickstart-1", COMMANDS) == 2
    out, err = capsys.readouterr()
    assert out == "a\nb\n"
    assert "failed with exit code 2" in err


@pytest.mark.parametrize(
    ("event", "code"), [(KeyboardInterrupt(), 130), (LostContact("http://h:1: no contact"), 1)]
)
def test_whoever_leaves_does_not_stop_the_job(
    event: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Cluster(ended("SUCCEEDED"), "a\n", event)
    assert follow(cluster, "quickstart-1", COMMANDS) == code
    assert not cluster.asked
    assert "logs -f quickstart-1 --address http://h:1" in capsys.readouterr().err


def test_stop_waits_until_it_is_saved(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(ended("STOPPED"), "stopped after step 7, which is saved\n")
    assert stop(cluster, "quickstart", COMMANDS) == 0
    assert cluster.asked == ["quickstart-1"]
    out, err = capsys.readouterr()
    assert "after step 7" in out
    assert "by force after 300 s" in err
    assert stop(cluster, "quickstart", COMMANDS) == 0
    assert cluster.asked == ["quickstart-1"]


def test_a_list_has_a_line_a_job() -> None:
    heading, line = listing(Cluster(ended("SUCCEEDED")))
    assert heading.split() == ["JOB", "RUN", "STATUS", "BEGAN", "TOOK"]
    assert line.split()[:3] == ["quickstart-1", "quickstart", "RUNNING"]
