"""Whether nodes get through to each other: each lets others in at a port, and knocks at theirs."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

CONNECT_S = 5.0
"""Seconds that a connection between two nodes may take."""


class Door:
    """A port of this node that lets everybody in, and says nothing, until its process ends."""

    def __init__(self, address: str) -> None:
        self.socket = socket.create_server((address, 0), family=family_of(address), backlog=128)
        threading.Thread(target=self._let_in, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.socket.getsockname()[1]

    def _let_in(self) -> None:
        while True:
            self.socket.accept()[0].close()


def family_of(address: str) -> socket.AddressFamily:
    """IPv4 or IPv6."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def knock(doors: dict[str, tuple[str, int]]) -> dict[str, str]:
    """Why connections to (address, port) fail, by name; all at the same time."""
    if not doors:
        return {}
    with ThreadPoolExecutor(min(32, len(doors))) as threads:
        reasons = threads.map(why_not, doors.values())
        return {name: why for name, why in zip(doors, reasons, strict=True) if why}


def why_not(door: tuple[str, int]) -> str | None:
    """Why a connection fails; None if it does not."""
    try:
        socket.create_connection(door, CONNECT_S).close()
    except OSError as error:
        return f"{error.strerror or error} at {door[0]}:{door[1]}"
    return None


def neighbours(names: list[str], own: int) -> list[str]:
    """Whom a node is to reach: the first, where all meet, and three more around a ring."""
    others = [names[0], *(names[(own + step) % len(names)] for step in (1, 2, 3))]
    return [name for name in dict.fromkeys(others) if name != names[own]]
