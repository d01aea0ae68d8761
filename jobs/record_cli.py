"""The command line of what runs leave behind: audit, diff, lineage, report, top."""

from typing import Annotated

import typer

from jobs.plainly import Overrides, told_plainly

app = typer.Typer()


@app.command()
def audit(
    target: Annotated[
        str,
        typer.Argument(help="A spec, or the folder of a pretrain artifact.", show_default=False),
    ],
    overrides: Overrides = None,
    stage: Annotated[
        str | None, typer.Option("--stage", "-s", help="Name of the pretrain stage.")
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", "-d", help="Tell which steps saw this document.")
    ] = None,
    step: Annotated[int | None, typer.Option("--step", help="Show what was in this step.")] = None,
) -> None:
    """Prove which data a training was trained on, in which order, nothing left out or repeated."""
    with told_plainly():
        from rich.console import Console

        from jobs import audit as audits

        folder = audits.find_run(target, overrides or [], stage)
        if document is not None:
            audits.show_document(folder, document, Console())
        elif step is not None:
            audits.show_step(folder, step, Console())
        else:
            audits.show_proof(folder, Console())


@app.command()
def diff(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="A [KEY=VALUE]... B [KEY=VALUE]...",
            help="Two runs: specs, folders of runs, or of artifacts; overrides follow their spec.",
            show_default=False,
        ),
    ],
) -> None:
    """Show what differs between two runs; exit code 0: nothing, 1: something, as of `diff`."""
    with told_plainly():
        from jobs.show_diff import print_diff

        code = print_diff(runs)
    raise typer.Exit(code)


@app.command()
def lineage(
    target: Annotated[
        str,
        typer.Argument(
            help="An artifact's folder, its id (system_fingerprint of an answer), or SPEC[:STAGE].",
            show_default=False,
        ),
    ],
    overrides: Overrides = None,
    storage: Annotated[str, typer.Option("--storage", help="Where an id is looked for.")] = "runs",
    json: Annotated[bool, typer.Option("--json", help="All of it, for programs.")] = False,
) -> None:
    """Lead an artifact, or an answer of the endpoint, back to spec, data, code and parents."""
    with told_plainly():
        from jobs.show_lineage import print_lineage

        print_lineage(target, overrides or [], storage, json)


@app.command()
def report(
    target: Annotated[
        str, typer.Argument(help="A spec, or the folder of a run.", show_default=False)
    ],
    overrides: Overrides = None,
) -> None:
    """Write report.html of a run, finished or not: its story, plots, costs, lineage."""
    with told_plainly():
        from jobs.report import write_run_report
        from jobs.top import folder_of

        typer.echo(write_run_report(folder_of(target, overrides or [])))


@app.command()
def top(
    target: Annotated[
        str, typer.Argument(help="A spec, or the folder of a run.", show_default=False)
    ],
    overrides: Overrides = None,
) -> None:
    """Watch how a run gets on, from anywhere its folder can be seen."""
    with told_plainly():
        from jobs.top import top as watch_run

        watch_run(target, overrides or [])
