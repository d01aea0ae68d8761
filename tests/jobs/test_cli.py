"""The command line: what it prints, how it exits, what it does not import."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs import schema
from jobs.cli import app
from jobs.plainly import sigterm_is_ctrl_c
from jobs.spec import Spec
from llm.errors import DataError, Stopped, TrainingError, UserError

ROOT = Path(__file__).parents[2]
QUICKSTART = str(ROOT / "jobs" / "quickstart.yaml")

runner = CliRunner()


class FakeRun:
    """Stands in for jobs.run and jobs.write, which would need torch and Ray."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.called: tuple[object, ...] = ()

    def run(self, spec: Spec) -> None:
        self.called = (spec.name, spec.seed)
        if self.error:
            raise self.error

    def generate(self, spec: Spec, prompt: str | None, stage: str | None) -> None:
        self.called = (spec.name, prompt, stage)


def put(fake: FakeRun, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    monkeypatch.setitem(sys.modules, "jobs.run", fake)
    monkeypatch.setitem(sys.modules, "jobs.write", fake)
    return fake


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["check", QUICKSTART], ["plan", QUICKSTART], ["schema"], ["version"]],
    ids=lambda arguments: arguments[0],
)
def test_what_answers_at_once_imports_neither_torch_nor_ray(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv[1:] = " + repr(arguments) + "\n"
        "from jobs.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'ray', 'numpy', 'pandas', 'sentencepiece'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_python_m_jobs_is_the_command() -> None:
    command = [sys.executable, "-m", "jobs", "check", "jobs/quickstart.yaml", "seed=x"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "command line: seed=x: seed: 'x' is not allowed; must be a whole number of at least 0\n"
    )


def test_check_says_the_order_and_what_comes_next() -> None:
    result = runner.invoke(app, ["check", QUICKSTART, "seed=3"])
    assert result.exit_code == 0
    assert result.output == (
        f"{QUICKSTART} is valid: "
        "7 stages: tokenizer -> pretrain -> sft -> reward -> ppo -> generate -> serve\n"
        f"Next: python -m jobs plan {QUICKSTART} seed=3\n"
    )


def test_a_wrong_spec_exits_with_2_and_says_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("nam: a\ndat: 1\n")
    result = runner.invoke(app, ["check", str(file)])
    assert result.exit_code == 2
    assert "x.yaml:1: nam: unknown key; did you mean 'name'?" in result.stderr
    assert "x.yaml:2: dat: unknown key; did you mean 'data'?" in result.stderr
    assert "stages: missing" in result.stderr
    assert "Traceback" not in result.output


def test_missing_text_exits_with_1_and_the_remedy(tmp_path: Path) -> None:
    file = ROOT / "jobs" / "shakespeare.yaml"
    result = runner.invoke(app, ["plan", str(file), f"data.shards={tmp_path / 'none'}"])
    assert result.exit_code == 1
    assert "run with data.shards=PATH" in result.stderr


def test_plan_ends_with_the_next_command(tmp_path: Path) -> None:
    result = runner.invoke(app, ["plan", QUICKSTART, f"storage={tmp_path}"])
    assert result.exit_code == 0
    assert result.output.rstrip().split("\n")[-1].startswith("Next: python -m jobs run ")


def test_run_gets_the_spec_with_its_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = put(FakeRun(), monkeypatch)
    assert runner.invoke(app, ["run", QUICKSTART, "seed=3"]).exit_code == 0
    assert fake.called == ("quickstart", 3)


def test_ctrl_c_exits_with_130_and_tells_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    put(FakeRun(KeyboardInterrupt()), monkeypatch)
    monkeypatch.setattr(sys, "argv", ["humpty", "run", "jobs/quickstart.yaml", "name=a b"])
    result = runner.invoke(app, ["run", QUICKSTART])
    assert result.exit_code == 130
    assert "  python -m jobs run jobs/quickstart.yaml 'name=a b'\n" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_a_closed_terminal_are_ctrl_c_and_only_while_it_runs(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waiting(FakeRun):
        def run(self, spec: Spec) -> None:
            os.kill(os.getpid(), number)
            threading.Event().wait(30)

    put(Waiting(), monkeypatch)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup SIGHUP is ignored, and stays so
    try:
        result = runner.invoke(app, ["run", QUICKSTART])
        assert result.exit_code == 130
        assert "The same command goes on where it was" in result.stderr
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_nohup_keeps_a_closed_terminal_away() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with sigterm_is_ctrl_c():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("error", "code"),
    [(Stopped("stopped after step 7"), 130), (TrainingError("rank 1, step 7: died"), 1)],
)
def test_a_training_that_ends_early_tells_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, error: UserError, code: int
) -> None:
    put(FakeRun(error), monkeypatch)
    monkeypatch.setattr(sys, "argv", ["humpty", "run", "jobs/quickstart.yaml"])
    result = runner.invoke(app, ["run", QUICKSTART])
    expected = f"{error}\nTo go on:\n  python -m jobs run jobs/quickstart.yaml\n"
    assert (result.exit_code, result.stderr) == (code, expected)


def test_rehearse_exits_with_what_it_found(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []

    class Fake:
        def rehearse(self, file: str, overrides: list[str], falls: str) -> int:
            called.extend((file, overrides, falls))
            return 1

    monkeypatch.setitem(sys.modules, "jobs.rehearse", Fake())
    options = ["rehearse", QUICKSTART, "seed=3", "--falls", "worker,driver"]
    assert runner.invoke(app, options).exit_code == 1
    assert called == [QUICKSTART, ["seed=3"], "worker,driver"]


def test_a_full_disk_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    put(FakeRun(OSError(errno.ENOSPC, "No space left on device", "/runs/x/spec.yaml")), monkeypatch)
    result = runner.invoke(app, ["run", QUICKSTART])
    assert result.exit_code == 1
    assert result.stderr.startswith("/runs/x/spec.yaml: No space left on device; make room")
    put(FakeRun(FileNotFoundError(errno.ENOENT, "No such file", "x")), monkeypatch)
    assert isinstance(runner.invoke(app, ["run", QUICKSTART]).exception, FileNotFoundError)


def test_a_mistake_while_running_has_no_traceback_and_a_bug_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(FakeRun(DataError("part.parquet: row 3 has no text")), monkeypatch)
    result = runner.invoke(app, ["run", QUICKSTART])
    assert (result.exit_code, result.stderr) == (1, "part.parquet: row 3 has no text\n")
    put(FakeRun(ZeroDivisionError()), monkeypatch)
    assert isinstance(runner.invoke(app, ["run", QUICKSTART]).exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("options", "called"),
    [
        ([], (None, None)),
        (["-p", "Once"], ("Once", None)),
        (["--prompt", "-", "--stage", "pretrain"], ("from stdin", "pretrain")),
    ],
)
def test_generate_takes_a_prompt_from_an_option_or_stdin(
    monkeypatch: pytest.MonkeyPatch, options: list[str], called: tuple[str | None, str | None]
) -> None:
    fake = put(FakeRun(), monkeypatch)
    result = runner.invoke(app, ["generate", QUICKSTART, "seed=3", *options], input="from stdin")
    assert result.exit_code == 0
    assert fake.called == ("quickstart", *called)


def test_schema_prints_the_schema() -> None:
    assert runner.invoke(app, ["schema"]).output == schema.text()


def test_version_names_the_program() -> None:
    assert runner.invoke(app, ["version"]).output.startswith("humpty")
