"""The commands for jobs on a cluster: submit, status, logs, stop, resume, list; and doctor."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.plainly import File, Overrides, told_plainly

if TYPE_CHECKING:
    from cluster.submit import Jobs

app = typer.Typer()

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="The cluster's dashboard, http://HOST:8265; else RAY_ADDRESS names it.",
    ),
]
Plain = Annotated[
    bool,
    typer.Option("--plain-http", help="Let the token travel unencrypted to another machine."),
]
Name = Annotated[
    str,
    typer.Argument(metavar="JOB", help="A job, or a run: then its newest job.", show_default=False),
]
Follow = Annotated[
    bool, typer.Option("--follow/--no-wait", help="Show its log until it ends, or return at once.")
]


@app.command()
def submit(
    file: File,
    overrides: Overrides = None,
    address: Address = None,
    pip: Annotated[
        list[str] | None,
        typer.Option(
            "--pip",
            help="What the nodes install first, a requirement; humpty: all that we need but Ray.",
        ),
    ] = None,
    installed: Annotated[
        bool,
        typer.Option("--installed", help="The cluster's image has humpty; send the spec alone."),
    ] = False,
    follow: Follow = True,
    plain_http: Plain = False,
) -> None:
    """Run a spec on a cluster; the job does not need this terminal."""
    with told_plainly("submits it"):
        from jobs.submit import Way
        from jobs.submit import submit as send

        way = Way(address, plain_http, tuple(pip or ()), installed, follow)
        code = send(file, tuple(overrides or ()), way)
    raise typer.Exit(code)


@app.command()
def resume(
    job: Name, address: Address = None, follow: Follow = True, plain_http: Plain = False
) -> None:
    """Send a job again that was stopped or fell; it goes on where it was."""
    with told_plainly():
        from jobs.submit import Way
        from jobs.submit import resume as send_again

        code = send_again(job, Way(address, plain_http, follow=follow))
    raise typer.Exit(code)


@app.command()
def logs(
    job: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends.")] = False,
    address: Address = None,
    plain_http: Plain = False,
) -> None:
    """Show what a job has written."""
    with told_plainly():
        from jobs import follow as follows

        commands = follows.Commands(address, plain_http)
        code = follows.logs(jobs_at(address, plain_http), job, follow, commands)
    raise typer.Exit(code)


@app.command()
def status(job: Name, address: Address = None, plain_http: Plain = False) -> None:
    """Show how a job is."""
    with told_plainly():
        from jobs import follow as follows

        commands = follows.Commands(address, plain_http)
        follows.status(jobs_at(address, plain_http), job, commands)


@app.command()
def stop(job: Name, address: Address = None, plain_http: Plain = False) -> None:
    """Have a job save and end; `resume` goes on with it."""
    with told_plainly():
        from jobs import follow as follows

        commands = follows.Commands(address, plain_http)
        code = follows.stop(jobs_at(address, plain_http), job, commands)
    raise typer.Exit(code)


@app.command("list")
def list_jobs(address: Address = None, plain_http: Plain = False) -> None:
    """Show the jobs of a cluster."""
    with told_plainly():
        from jobs.follow import listing

        for line in listing(jobs_at(address, plain_http)):
            typer.echo(line)


@app.command()
def doctor(
    file: Annotated[
        str | None, typer.Argument(help="A spec: its storage and workers.", show_default=False)
    ] = None,
    overrides: Overrides = None,
    address: Address = None,
    plain_http: Plain = False,
) -> None:
    """Look whether this machine, or the cluster at an address, is fit for a run."""
    with told_plainly():
        from jobs.doctor import doctor as examine

        code = examine(file, tuple(overrides or ()), address, plain_http)
    raise typer.Exit(code)


def jobs_at(address: str | None, plain: bool) -> "Jobs":
    """The jobs of a cluster."""
    from cluster.submit import connect

    return connect(address, plain)
