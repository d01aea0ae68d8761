"""Which program this is."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

GIT_S = 10.0
"""Seconds that git may take on a slow disk."""


def installed(package: str) -> str:
    """Version of an installed package; a checkout need not be installed to be run."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def commit() -> str | None:
    """The commit of this checkout, with a + if its files differ; None if it is no checkout."""
    if not (ROOT / ".git").exists():
        return None
    described = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(described, cwd=ROOT, capture_output=True, text=True, timeout=GIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
