"""What all commands have in common: their arguments, and how what goes wrong is told.

What a user gets wrong is told on stderr without a traceback, with exit code 2 for the spec and 1
for the rest; Ctrl-C, SIGTERM and a closed terminal end with 130.
"""

import errno
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from cluster.stop import heard, interrupt
from jobs import inside
from llm.errors import Stopped, TrainingError, UserError

File = Annotated[str, typer.Argument(help="The spec, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Values laid over the file: stages.pretrain.optim.lr=1e-3",
        show_default=False,
    ),
]

STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What disks refuse."""


@contextmanager
def told_plainly(again: str = "goes on where it was") -> Iterator[None]:
    """Mistakes of the user become a message and an exit code; bugs keep their traceback.

    again: what the same command does after Ctrl-C.
    """
    try:
        yield
    except (Stopped, TrainingError) as error:
        typer.echo(f"{error}\nTo go on:\n  {same_command()}", err=True)
        raise typer.Exit(error.exit_code) from None
    except UserError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        if error.errno not in STORAGE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        remedy = "make room or mend it, then the same command goes on"
        typer.echo(f"{where}{error.strerror}; {remedy}:\n  {same_command()}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo(f"\nStopped. The same command {again}:\n  {same_command()}", err=True)
        raise typer.Exit(130) from None


def same_command() -> str:
    """What was typed, for a shell; inside a job what sends it again."""
    if inside.was_submitted():
        return shlex.join(["python", "-m", "jobs", "resume", inside.job_id()])
    return shlex.join(["python", "-m", "jobs", *sys.argv[1:]])


@contextmanager
def sigterm_is_ctrl_c() -> Iterator[None]:
    """Inside the block SIGTERM, and SIGHUP of a closed terminal, interrupt as Ctrl-C does."""
    with heard(interrupt):
        yield
