"""One line for each request: when, who, what, how it ended and how long it took.

    2026-11-22T13:50:00.123Z req-5f0c... key=ops POST /v1/chat/completions 200 812ms in=34 out=120

Never a prompt, an answer, a key, a query or anything else that somebody else chose, apart from the
path, which is cut and quoted.
"""

import logging
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

logger = logging.getLogger("humpty.access")

LONGEST_PATH = 100

SECRET = re.compile(r"(hk|sk)-[\w-]{8,}")
"""What looks like a key; some clients put theirs into paths by mistake."""


@dataclass
class Access:
    """A request, filled in on its way; the app finds it as `request.state.access`."""

    id: str
    method: str
    path: str
    started: datetime
    key: str | None = None
    """Name of the API key; None: nobody was asked for one, or it was wrong."""
    status: int = 0
    """Of HTTP; 499: the client left before the answer was complete."""
    milliseconds: float = 0.0
    model: str | None = None
    """Set by the app once it is known to be one that is served."""
    prompt_tokens: int | None = None
    """Set by the app."""
    generated_tokens: int | None = None
    """Set by the app."""


def line(access: Access) -> str:
    """How a request looks in the log."""
    parts = [
        access.started.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        access.id,
        f"key={access.key or '-'}",
        access.method,
        plain_path(access.path),
        str(access.status),
        f"{access.milliseconds:.0f}ms",
    ]
    if access.model is not None:
        parts.append(f"model={quote(access.model)}")
    if access.prompt_tokens is not None:
        parts.append(f"in={access.prompt_tokens}")
    if access.generated_tokens is not None:
        parts.append(f"out={access.generated_tokens}")
    return " ".join(parts)


def plain_path(path: str) -> str:
    """A path without line breaks, blanks, control characters and keys."""
    path = SECRET.sub(r"\1-...", path)
    short = path[:LONGEST_PATH] + ("..." if len(path) > LONGEST_PATH else "")
    return quote(short, safe="/:@-._~")


def write(access: Access) -> None:
    """Put a request into the log."""
    logger.info("%s", line(access))


def show(stream: object = None) -> None:
    """Write access lines to a stream, once, whatever else is logged; none: standard error."""
    if not logger.handlers:
        handler = logging.StreamHandler(stream or sys.stderr)  # type: ignore[arg-type]
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
