"""What a person sees while trials run."""

import io
import re
from pathlib import Path

from rich.console import Console

from jobs.watch_trials import TrialWatch
from tests.tune.folders import wrote
from tune.config import DimensionConfig, SweepConfig

CONFIG = SweepConfig(
    space={"pretrain.optim.lr": DimensionConfig(uniform=(0.0, 1.0))}, metric="loss", trials=5
)


def watched(folder: Path, terminal: bool, width: int = 60) -> str:
    """What is seen of a trial that ended, of one that was stopped and of one that goes on."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=width, color_system=None)
    with TrialWatch(console, CONFIG) as watch:
        for number, status in enumerate(("done", "stopped", "unfinished")):
            more = {"by": "asha"} if status == "stopped" else {}
            losses = [3.0, 2.0 + number]
            watch(
                wrote(folder, number, {"pretrain.optim.lr": 0.1 * number}, losses, status, **more)
            )
    return re.sub(r"\x1b\[\?25[lh]", "", out.getvalue())


def test_the_table_says_how_each_trial_is_and_how_all_get_on(tmp_path: Path) -> None:
    shown = watched(tmp_path, terminal=True)
    header, done, stopped, goes_on, summary = [line for line in shown.splitlines() if line]
    assert header.split() == ["trial", "tokens", "loss", "lr"]
    assert done.split() == ["0", "done", "2", "2", "0"]
    assert stopped.split() == ["1", "stopped", "(asha)", "2", "3", "0.1"]
    assert goes_on.split() == ["2", "under", "way", "2", "4", "0.2"]
    assert summary.startswith("2 of 5 ended after 0s; best so far: trial 0, loss 2")


def test_without_a_terminal_there_are_plain_lines(tmp_path: Path) -> None:
    assert watched(tmp_path, terminal=False, width=20).splitlines() == [
        "trial 0 done at 2: loss 2 pretrain.optim.lr=0",
        "trial 1 stopped by asha at 2: loss 3 pretrain.optim.lr=0.1",
        "trial 2 begins at 2: loss 4 pretrain.optim.lr=0.2",
    ]
