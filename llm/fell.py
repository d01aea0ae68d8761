"""An error in one process of a training, told in one line that says where: rank, step, cause.

A traceback does not travel between processes, so the line is made where the error is. Mistakes of
the user and going back are no falls, and pass through as they are.
"""

import errno
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llm.errors import ArtifactError, UserError
from llm.faults import RolledBack

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a storage that is full, or cannot be written to."""


class Fell(Exception):
    """What went wrong in which process at which step; None: before the first."""

    def __init__(self, rank: int, step: int | None, cause: str, trace: str) -> None:
        super().__init__(rank, step, cause, trace)  # so that it pickles
        self.rank, self.step, self.cause, self.trace = rank, step, cause, trace

    def __str__(self) -> str:
        where = f"rank {self.rank}" if self.step is None else f"rank {self.rank}, step {self.step}"
        return f"{where}: {self.cause}"


def fell(rank: int, step: int | None, error: BaseException) -> Fell:
    """An error that was just caught, with its place."""
    return Fell(rank, step, cause(error), "".join(traceback.format_exception(error)))


def cause(error: BaseException) -> str:
    """`ZeroDivisionError: division by zero (rule.py:12)`: the innermost line that is no library's.

    Of a message of many lines the first that is not empty.
    """
    said = next((line for line in str(error).splitlines() if line.strip()), "")
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    if not own:
        return text
    return f"{text} ({own[-1].filename.rpartition('/')[2]}:{own[-1].lineno})"


@contextmanager
def telling_where(rank: int, step: Callable[[], int], folder: Path) -> Iterator[None]:
    """Errors inside the block become `Fell`; `step` is asked when one happens.

    A storage that takes no more is for the user to mend, as trying again would not.
    """
    try:
        yield
    except (UserError, RolledBack, Fell):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise ArtifactError(
                f"{error.filename or folder}: {error.strerror} (step {step()}); checkpoints that "
                "are there are intact. Make room, and the same command goes on from the last one"
            ) from error
        raise fell(rank, step(), error) from error
