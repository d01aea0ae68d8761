"""What a sweep costs besides its trials: `python -m tests.bench sweep`.

Eight equal trials of two seconds, two at a time: on Ray Tune, and as plain processes. A trial waits
and computes nothing, so that what is measured is starting, reporting and ending. The cluster is
there already, as it is for the stages around a sweep.
"""

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ray

from tests.tune.toys import LENGTH, SPACE, training
from tune.config import SweepConfig
from tune.sweep import sweep
from tune.trials import Trial

TRIALS, AT_ONCE, SECONDS = 8, 2, 2.0


def plain() -> float:
    """Seconds of the same waiting in processes of python alone."""
    begin = time.monotonic()
    command = [sys.executable, "-c", f"import time; time.sleep({SECONDS})"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(subprocess.run, command, check=True) for _ in range(TRIALS)]:
            done.result()
    return time.monotonic() - begin


def on_tune(folder: Path) -> tuple[float, list[Trial]]:
    """Seconds of a sweep, and its trials."""
    config = SweepConfig(
        space=SPACE, metric="loss", scheduler="none", search="random",
        trials=TRIALS, concurrent=AT_ONCE,
    )  # fmt: skip
    begin = time.monotonic()
    trials = sweep(config, training(SECONDS / LENGTH), folder, length=LENGTH)
    return time.monotonic() - begin, trials


def between(spans: list[tuple[float, float]]) -> list[float]:
    """Seconds from the end of a trial to the begin of the next in its place."""
    ends, begins = sorted(end for _, end in spans), sorted(begin for begin, _ in spans)
    return [begin - end for end, begin in zip(ends, begins[AT_ONCE:], strict=False)]


def main() -> None:
    """Both, and what is between two trials."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        seconds, trials = on_tune(Path(folder))
        spans = [(trial.log[0]["time"], trial.log[-1]["time"]) for trial in trials]
    ideal = TRIALS / AT_ONCE * SECONDS
    processes = plain()
    first = seconds - (max(end for _, end in spans) - min(begin for begin, _ in spans))
    gaps = between(spans)
    print(f"{TRIALS} trials of {SECONDS:g} s, {AT_ONCE} at once: {ideal:.1f} s of waiting")
    print(f"plain processes {processes:.1f} s, sweep {seconds:.1f} s")
    print(f"before the first and after the last trial {first:.1f} s")
    print(f"between two trials {sum(gaps) / len(gaps):.2f} s")


if __name__ == "__main__":
    main()
