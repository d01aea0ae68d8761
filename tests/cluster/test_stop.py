"""Who asks for the end, and what of a closed terminal reaches whom. No Ray is started."""

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.stop import asked_to_stop, hangups_kept_away

ROOT = Path(__file__).parents[2]

TRAINING = """
import sys, time
from pathlib import Path
from cluster.stop import asked_to_stop
with asked_to_stop() as stop:
    print("ready", flush=True)
    while not stop.asked:
        time.sleep(0.01)
    print("saving, said to nobody", flush=True)
Path(sys.argv[1]).write_text("saved")
"""


def test_a_training_whose_terminal_is_closed_still_saves(tmp_path: Path) -> None:
    master, terminal = pty.openpty()

    def lead() -> None:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    command = [sys.executable, "-c", TRAINING, str(tmp_path / "a")]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal, preexec_fn=lead
    )
    os.close(terminal)
    assert os.read(master, 100).startswith(b"ready")
    os.close(master)
    assert process.wait(60) == 0
    assert (tmp_path / "a").read_text() == "saved"


@pytest.fixture
def heard() -> Iterator[None]:
    """Ctrl-C is heard, also where these tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_wish_is_noted_and_the_second_ends_at_once(number: signal.Signals) -> None:
    with asked_to_stop() as stop:
        os.kill(os.getpid(), number)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_processes_started_meanwhile_outlive_a_closed_terminal() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with hangups_kept_away():
        process = subprocess.Popen(["sleep", "60"])
    assert signal.getsignal(signal.SIGHUP) == before
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.kill()
    process.wait()
