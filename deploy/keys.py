"""Who may ask: API keys, of which only hashes are ever kept.

    python -m jobs key NAME        shows a key once and adds a line to the key file:
    NAME sha256:1f3a... 2026-11-22T13:50:00+00:00

A key is 32 random bytes, so a plain SHA-256 protects it as well as a slow password hash would:
there is no dictionary of 2^256 keys to go through. A key that stands in the file twice under two
names has the name of the first line.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from llm.errors import SpecError

logger = logging.getLogger("humpty.keys")

PREFIX = "hk-"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
"""What a key may be called; names stand in the access log, so nothing that breaks its lines."""

HASH = re.compile(r"sha256:[0-9a-f]{64}")

BEARER = re.compile(r"bearer +(\S{1,512}) *", re.IGNORECASE)

SHORTEST = 16
"""Characters of a key that somebody chose; shorter ones can be guessed."""

LOOK_AGAIN = 1.0
"""Seconds between two looks at the key file, after which a revoked key stops working."""

Hashes = Mapping[str, str]
"""Name of each key by its hash."""


def new_key(name: str) -> tuple[str, str]:
    """A key, which is shown once, and the line of the key file that lets it in."""
    if not NAME.fullmatch(name):
        raise SpecError(
            f"key: {name!r} is no name for a key; write 1-64 letters, digits and . _ @ -, for "
            "example the name of the person or service that gets it"
        )
    plain = PREFIX + secrets.token_urlsafe(32)
    return plain, f"{name} {hash_of(plain)} {datetime.now(UTC).isoformat(timespec='seconds')}"


def hash_of(plain: str) -> str:
    """What is kept of a key."""
    return "sha256:" + hashlib.sha256(plain.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """Keys that are let in. Holds hashes only, so it can be sent to other processes."""

    def __init__(
        self,
        hashes: Hashes,
        path: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.hashes = dict(hashes)
        self.path = path
        self.clock = clock
        self.seen: tuple[int, int, int] | None = None
        self.looked = -LOOK_AGAIN

    @classmethod
    def of_file(cls, path: str | Path, *, clock: Callable[[], float] = time.monotonic) -> "KeyRing":
        """The keys of a file, which is read again when it changes."""
        path = Path(path).absolute()  # a process that it is sent to may stand elsewhere
        ring = cls({}, path, clock=clock)
        ring.seen, ring.looked = version_of(path), clock()
        hashes, mistakes = read(path)
        if mistakes:
            raise SpecError("\n".join(mistakes))
        if not hashes:
            raise SpecError(f"keys: {path} has no key in it; add one: python -m jobs key NAME")
        ring.hashes = hashes
        return ring

    @classmethod
    def of_environment(cls, value: str) -> "KeyRing":
        """Keys, or their hashes, between commas: what HUMPTY_API_KEYS holds."""
        hashes: dict[str, str] = {}
        for number, key in enumerate((part.strip() for part in value.split(",")), 1):
            if key:
                hashes.setdefault(checked_hash(key, number), f"environment-{number}")
        if not hashes:
            raise SpecError("HUMPTY_API_KEYS has no key in it; write keys with commas between them")
        return cls(hashes)

    @classmethod
    def of_plain(cls, key: str, name: str = "first") -> "KeyRing":
        """One key, as it is made for a server that was given none."""
        return cls({hash_of(key): name})

    def name_of(self, authorization: str | None) -> str | None:
        """The name of the key in an Authorization header; None: nobody we know.

        Takes as long for a wrong key as for a right one: all are compared, each in constant time.
        """
        self.read_again()
        found = BEARER.fullmatch(authorization or "")
        presented = hash_of(found[1] if found else "")
        name = None
        for known, of in self.hashes.items():
            if hmac.compare_digest(known, presented):
                name = of
        return name if found else None

    def read_again(self) -> None:
        """Take over a changed file. Lines with mistakes let nobody in; a missing file, nobody."""
        if self.path is None or self.clock() - self.looked < LOOK_AGAIN:
            return
        self.looked = self.clock()
        version = version_of(self.path)
        if version == self.seen:
            return
        self.seen = version
        try:
            self.hashes, mistakes = read(self.path)
        except SpecError as error:
            self.hashes, mistakes = {}, [str(error)]
        for mistake in mistakes:
            logger.error("%s", mistake)
        logger.info("%s has changed: %d keys are let in", self.path, len(self.hashes))


def read(path: Path) -> tuple[dict[str, str], list[str]]:
    """The keys of a file, and what is wrong with its other lines."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"keys: {path} cannot be read ({error}); make it with: python -m jobs key NAME"
        ) from error
    hashes: dict[str, str] = {}
    mistakes = []
    for number, line in enumerate(text.splitlines(), 1):
        if not (parts := line.split("#", 1)[0].split()):
            continue
        if len(parts) < 2 or not NAME.fullmatch(parts[0]) or not HASH.fullmatch(parts[1]):
            # The line is not shown: somebody may have written the key itself into it.
            mistakes.append(
                f"keys: {path}, line {number} is not `NAME sha256:HASH [DATE]`; "
                "write lines with: python -m jobs key NAME"
            )
        else:
            hashes.setdefault(parts[1], parts[0])
    return hashes, mistakes


def checked_hash(key: str, number: int) -> str:
    """The hash of a key that is given in plain, or the hash that is given."""
    if key.startswith("sha256:"):
        if not HASH.fullmatch(key):
            raise SpecError(
                f"HUMPTY_API_KEYS: hash {number} is not sha256: and 64 hexadecimal digits; "
                "python -m jobs key NAME makes one"
            )
        return key
    if len(key) < SHORTEST:
        raise SpecError(
            f"HUMPTY_API_KEYS: key {number} has {len(key)} characters and can be guessed; use at "
            f"least {SHORTEST}, or one made by: python -m jobs key NAME"
        )
    return hash_of(key)


def version_of(path: Path) -> tuple[int, int, int] | None:
    """Changes when a file is written or replaced; None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
