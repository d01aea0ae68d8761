"""`python -m jobs key`: a new API key."""

from pathlib import Path

from deploy.keys import new_key, read
from llm.errors import SpecError
from llm.files import write_atomic


def make_key(name: str, file: str) -> None:
    """Show a key, this once, and keep its hash in a file that only its owner can read."""
    path = Path(file)
    kept = path.read_text("utf-8") if path.exists() else ""
    names = read(path)[0].values() if kept else ()
    if name in names:
        raise SpecError(
            f"key: {path} has a key of {name!r} already; choose another name, or remove its line, "
            "which locks that key out"
        )
    plain, line = new_key(name)
    write_atomic(path, kept + ("" if kept.endswith("\n") or not kept else "\n") + line + "\n")
    path.chmod(0o600)
    print(plain)
    print(f"This is the only time it is shown; {path} holds its hash.")
    print(f"Next: write `keys: {path}` in the serve stage; clients send it as their API key")
