"""Processes of this machine, as Linux shows them in /proc."""

from pathlib import Path


def children(parent: int) -> list[int]:
    """The processes that a process has started and that are still there."""
    numbers = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return [pid for pid in numbers if parent_of(pid) == parent]


def parent_of(pid: int) -> int | None:
    """The process that has started another one; None if that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])  # behind the name, which may hold anything


def title(pid: int) -> str:
    """What a process calls itself; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""
