"""C beside this file, compiled for this processor when it is first wanted.

That takes half a second to a second; the next process finds the library in ~/.cache/humpty/native,
if that is this user's alone. Where there is no compiler torch computes the same.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

FLAGS = (
    *("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp"),
    "-fno-strict-aliasing",  # links of causal.c are numbers by another type
)
PROCESSOR = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU part")
"""Beginnings of the lines of /proc/cpuinfo that say what a processor can do."""

LANES = 16
"""Numbers of a vector; as in vectors.h."""

VALUES: dict[torch.dtype, tuple[str, ...]] = {torch.bfloat16: (), torch.float32: ("FP32",)}
"""What files for numbers of either kind are compiled with."""


@cache
def library(source: str, values: tuple[str, ...]) -> ctypes.CDLL | None:
    """A file of C beside this one, compiled for this processor; None where that cannot be done."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    file = Path(__file__).with_name(source)
    words = [compiler, *FLAGS, *(f"-D{value}" for value in values)]
    try:
        with kept(f"{file.stem}-{identity(file, words)}.so") as place:
            if not place.exists() and not build(words, file, place):
                return None
            return ctypes.CDLL(str(place))
    except OSError as error:  # a full disk, a folder that nothing may be executed from, ...
        logger.warning("%s is not used, torch takes its place: %s", source, error)
        return None


def build(words: list[str], source: Path, place: Path) -> bool:
    """Compile a file to a place, where it appears whole."""
    with tempfile.TemporaryDirectory(prefix=".", dir=place.parent) as folder:
        output = Path(folder) / place.name
        command = [*words, "-shared", "-fPIC", "-o", str(output), str(source), "-lm"]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            logger.info("%s is not used, torch takes its place: %s", source.name, result.stderr)
            return False
        with output.open("rb") as written:
            os.fsync(written.fileno())
        output.rename(place)
    return True


def identity(source: Path, words: list[str]) -> str:
    """Of what is made of a file here: it changes with the files, the call and the processor."""
    known = Path("/proc/cpuinfo")
    processor = known.read_text().partition("\n\n")[0] if known.exists() else platform.processor()
    lines = [line for line in processor.splitlines() if line.startswith(PROCESSOR)]
    changed = str(Path(words[0]).resolve().stat().st_mtime_ns)
    texts = [one.read_text() for one in (source, source.with_name("vectors.h"))]
    return hashlib.sha256("\0".join([*texts, *words, changed, *lines]).encode()).hexdigest()[:20]


@contextmanager
def kept(name: str) -> Iterator[Path]:
    """A place for a library: among those of earlier processes, if that is ours alone."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(home) / "humpty" / "native"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
        ours = state.st_uid == os.getuid() and not state.st_mode & 0o022
    except OSError:
        ours = False
    if ours and os.access(folder, os.W_OK):
        yield folder / name
        return
    with tempfile.TemporaryDirectory(prefix="humpty-") as passing:
        yield Path(passing) / name
