"""Who may write into a folder: one run at a time, and a run that has died gives way by itself.

The holder of a folder is the newest of the numbered files in its `.lease`. Whoever wants the folder
creates the next number, which on every file system, NFS included, succeeds for one of many that
try at once. Nothing in `.lease` is ever removed or renamed, so whoever lists it sees the newest,
and no lock is held that a dead process could leave behind: a run killed a hundred times leaves a
hundred small files. `N.end` says that number N was given back.

A holder touches its file every 5 s. One that has not done so for 30 s has lost its right to the
folder, and one whose process is known to be dead at once. Clocks of two machines are never
compared: that the lease of another machine runs out is seen by watching it. A holder that comes
back from a long sleep finds that it has a successor.

A `Fence` tells a process anywhere whether the run that started it still holds the folder. It looks
for a successor, not at the clock: until there is one, nobody else writes, and a run whose machine
was busy for a minute goes on.
"""

import json
import os
import shlex
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIGINT, pthread_kill

from llm.errors import UserError

TTL = 30.0
"""Seconds without a renewal after which a lease has run out."""

EVERY = 5.0
"""Seconds between renewals."""

LOOKS = 0.2
"""Seconds between two looks at a lease that may run out."""

STRANGER = "one that has just begun"


@dataclass(frozen=True)
class Lease:
    """Who holds a folder, as it stands in the file."""

    token: str
    host: str
    machine: str
    """Boot and process namespace in which the pid means something; empty if unknown."""
    pid: int
    process: str
    """When the process began, since pids are used again."""
    command: str
    since: float

    @classmethod
    def mine(cls) -> "Lease":
        """A new one of this process."""
        return cls(
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            machine=machine(),
            pid=os.getpid(),
            process=process_birth(os.getpid()) or "",
            command=shlex.join(sys.orig_argv),
            since=time.time(),
        )

    @property
    def here(self) -> bool:
        """Whether the holder's processes can be seen from this one."""
        return bool(self.machine) and self.machine == machine()

    @property
    def is_dead(self) -> bool:
        """Whether the holder is known to be gone."""
        return self.here and process_birth(self.pid) != self.process

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {since} ({self.command})"


@dataclass(frozen=True)
class Fence:
    """Whether the lease with this token still stands; may be pickled and asked anywhere."""

    folder: Path
    token: str

    def __call__(self) -> bool:
        number = newest_in(self.folder)
        lease = read(self.folder, number)
        return lease is not None and lease.token == self.token and not is_back(self.folder, number)


@dataclass(frozen=True)
class Holding:
    """A folder that is held."""

    fence: Fence
    fallen: Lease | None
    """The holder before, if it ended without giving the folder back."""

    def require(self) -> None:
        """UserError if the folder is no longer held."""
        if not self.fence():
            raise succeeded(self.fence.folder)


@contextmanager
def holding(folder: Path, say: Callable[[str], None] = print) -> Iterator[Holding]:
    """Hold the folder inside the block; UserError if another run does.

    A lease of which it cannot be seen whether its holder lives is watched until it is renewed or
    has run out; `say` is told meanwhile. Should the folder be lost all the same, the main thread
    is interrupted, and a UserError says so.
    """
    number, lease, fallen = take(folder, say)
    held = Holding(Fence(folder.absolute(), lease.token), fallen)
    done = threading.Event()
    renewals = threading.Thread(target=renew, args=(folder, number, held, done), daemon=True)
    renewals.start()
    try:
        yield held
    except BaseException:
        held.require()
        raise
    finally:
        done.set()
        renewals.join()
        give_back(folder, number)


def take(folder: Path, say: Callable[[str], None]) -> tuple[int, Lease, Lease | None]:
    """Become the holder: the number of the lease, the lease, and the one before if it fell."""
    while True:
        number = newest_in(folder)
        if number:
            watch(folder, number, say)
        lease = Lease.mine()
        with suppress(FileExistsError):  # somebody was faster
            create(folder, number + 1, lease)
            fallen = None if is_back(folder, number) else read(folder, number)
            return number + 1, lease, fallen


def holder(folder: Path) -> Lease | None:
    """Who holds the folder, as far as a bystander can tell, who changes nothing; None: nobody."""
    number = newest_in(folder)
    if not number or is_back(folder, number):
        return None
    lease = read(folder, number)
    renewed = path_of(folder, number).stat().st_mtime
    return lease if lease and not lease.is_dead and time.time() - renewed <= TTL else None


def watch(folder: Path, number: int, say: Callable[[str], None]) -> None:
    """Return once the lease has run out or is given back; UserError if its holder lives."""
    path = path_of(folder, number)
    first, end = path.stat().st_mtime, time.monotonic() + TTL
    while not is_back(folder, number) and newest_in(folder) == number:
        lease, renewed, left = read(folder, number), path.stat().st_mtime, end - time.monotonic()
        here = lease is not None and lease.here
        if (lease and lease.is_dead) or (here and time.time() - renewed > TTL) or left < 0:
            return
        if here or renewed != first:
            raise refused(folder, lease)
        say(f"held by {lease or STRANGER}; taken over in {left:.0f} s, unless it shows itself")
        time.sleep(LOOKS)


def renew(folder: Path, number: int, held: Holding, done: threading.Event) -> None:
    """Keep a lease fresh until `done`; if it has a successor, interrupt the main thread."""
    while not done.wait(EVERY):
        if not held.fence():
            pthread_kill(threading.main_thread().ident or 0, SIGINT)
            return
        now = time.time()  # by the clock of this machine, not of the one that has the disk
        with suppress(OSError):
            os.utime(path_of(folder, number), (now, now))


# -- files -----------------------------------------------------------------------------------------


def path_of(folder: Path, number: int) -> Path:
    """The file of a lease."""
    return folder / ".lease" / str(number)


def newest_in(folder: Path) -> int:
    """The number of the newest lease; 0 if there never was one."""
    names = (path.name for path in folder.glob(".lease/*"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def read(folder: Path, number: int) -> Lease | None:
    """A lease; None if there is none, or its holder is about to write it."""
    try:
        return Lease(**json.loads(path_of(folder, number).read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def create(folder: Path, number: int, lease: Lease) -> None:
    """Write a lease that does not exist yet; FileExistsError if it does."""
    path = path_of(folder, number)
    path.parent.mkdir(exist_ok=True)
    with open(path, "xb") as file:
        file.write(json.dumps(asdict(lease)).encode())


def give_back(folder: Path, number: int) -> None:
    """Say that a lease has ended as it should."""
    with suppress(OSError):  # a full disk: then it runs out
        path_of(folder, number).with_suffix(".end").touch()


def is_back(folder: Path, number: int) -> bool:
    """Whether a lease was given back."""
    return path_of(folder, number).with_suffix(".end").exists()


# -- processes and messages ------------------------------------------------------------------------


def machine() -> str:
    """What makes a pid unique: the boot and the process namespace; empty where none is told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_birth(pid: int) -> str | None:
    """When a process began, in ticks of its machine; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def refused(folder: Path, lease: Lease | None) -> UserError:
    """Another run is at work."""
    ending = f"end it (kill {lease.pid} on {lease.host})" if lease else "end it"
    return UserError(
        f"{folder}: another run works on this stage: {lease or STRANGER}. Let it finish or "
        f"{ending}, then give the same command again; or give this one another `name:`"
    )


def succeeded(folder: Path) -> UserError:
    """The folder is lost."""
    if not folder.exists():
        return UserError(f"{folder}: was removed while a run worked in it; that run has ended")
    holder = read(folder, newest_in(folder))
    return UserError(
        f"{folder}: another run has taken over, since this one did not show itself for "
        f"{TTL:.0f} s: {holder or STRANGER}; this one has ended"
    )
