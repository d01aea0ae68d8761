"""The console script `humpty`: makes sure that it runs its own packages before it does.

`llm`, `cluster`, `tune` and `deploy` are names that packages on PyPI have too; installed into the
same environment one of them could come first on the path.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the command line, or say whose package is in the way."""
    for name in ("llm", "cluster", "deploy"):
        found = find_spec(name)
        place = Path(found.origin).resolve().parent if found and found.origin else None
        if place != ROOT / name:
            sys.exit(
                f"humpty: the package '{name}' that Python finds is not humpty's but "
                f"{place or 'missing'}; run `python -m jobs` in {ROOT}, or uninstall the other one"
            )
    from jobs.cli import main as command_line

    command_line()
