"""Everything that a server logs anywhere, so that a test can look for what must not be there."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from deploy import access_log


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """All levels of all loggers but the client's own, the access log included."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(lambda record: not record.name.startswith("http"))
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    access, before = access_log.logger, access_log.logger.level
    access.setLevel(logging.INFO)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        access.setLevel(before)
