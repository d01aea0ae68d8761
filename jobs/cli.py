"""The command line: init, check, plan, run, render, rehearse, migrate, schema, version.

Models: generate, serve, chat, key (jobs/model_cli.py). What runs leave behind: audit, diff,
lineage, report, top (jobs/record_cli.py). Jobs on a cluster: submit, status, logs, stop, resume,
list; and doctor (jobs/submit_cli.py).

torch and ray are imported by the commands that need them, inside, so that everything else answers
at once.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs import model_cli, record_cli, submit_cli
from jobs.graph import order
from jobs.load import load
from jobs.plainly import File, Overrides, sigterm_is_ctrl_c, told_plainly
from jobs.plan import resolve
from jobs.version import installed
from llm.errors import SpecError

app = typer.Typer(
    name="humpty",
    help="Train language models on a Ray cluster as one YAML file says.",
    epilog="Start with: python -m jobs run jobs/quickstart.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def init(
    target: Annotated[
        str | None,
        typer.Argument(
            help="The text: a file, folder, glob or URI; or pydoc://.", show_default=False
        ),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="The same; may be repeated.")] = None,
    purpose: Annotated[
        str | None, typer.Option("--for", help="text continues it, fill fills gaps, chat answers.")
    ] = None,
    chats: Annotated[
        list[str] | None, typer.Option(help="Conversations: a file or folder.")
    ] = None,
    comparisons: Annotated[
        list[str] | None, typer.Option(help="Answers that were compared.")
    ] = None,
    minutes: Annotated[str | None, typer.Option(help="How long it may take; also 2h, 3d.")] = None,
    name: Annotated[str | None, typer.Option(help="What the run is called.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; else NAME.yaml.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing, take the defaults.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Ask a few questions, look at the text and the machine, and write a spec that fits."""
    with told_plainly("asks anew; nothing was written"):
        from jobs.init import Wishes
        from jobs.init import init as ask_and_write

        places = (*filter(None, [target]), *(text or ()))
        sets = tuple(chats or ()), tuple(comparisons or ())
        ask_and_write(Wishes(places, purpose, *sets, minutes, name, out, yes, force))


@app.command()
def check(file: File, overrides: Overrides = None) -> None:
    """Say everything that is wrong with a spec, or that it is valid."""
    with told_plainly():
        spec = load(file, overrides or ())
        names = order(spec.stages)
        stages = f"{len(names)} stage{'s' if len(names) > 1 else ''}: {' -> '.join(names)}"
        typer.echo(f"{file} is valid: {stages}\nNext: {spec.command('plan')}")


@app.command()
def plan(
    file: File,
    overrides: Overrides = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="On paper: so many workers of one GPU each.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="On paper: h100, a100, b200, ...; another name lists all.")
    ] = None,
    price: Annotated[
        float | None, typer.Option(min=0, help="Dollars for a GPU hour; else cluster.price.")
    ] = None,
    network: Annotated[
        float | None, typer.Option(min=0.1, help="GB/s to other nodes, of each GPU.")
    ] = None,
) -> None:
    """Show what each stage is, costs, and why it runs; with --gpu: on machines of your wish."""
    with told_plainly():
        from rich.console import Console

        from jobs.facts import gather
        from jobs.show import show

        if gpu is None and (workers, price, network) != (None, None, None):
            raise SpecError("--workers, --price and --network want --gpu, too: --gpu h100")
        spec = load(file, overrides or ())
        plan = resolve(spec, gather(spec))
        if gpu is None:
            show(plan, Console())
        else:
            from jobs.scale import machines_of
            from jobs.show_scale import show_scale

            show_scale(plan, machines_of(plan, gpu, workers, price, network), Console())


@app.command()
def run(file: File, overrides: Overrides = None) -> None:
    """Do what is not done yet; after an interruption, go on where it was."""
    with told_plainly(), sigterm_is_ctrl_c():
        spec = load(file, overrides or ())
        from jobs.run import run as run_spec

        run_spec(spec)


@app.command()
def render(
    file: File,
    overrides: Overrides = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the manifests.", show_default=False)
    ] = Path("manifests"),
) -> None:
    """Write manifests for KubeRay: a job that runs a spec, a cluster, a service."""
    with told_plainly():
        from rich.console import Console

        from jobs.render import render as render_manifests

        render_manifests(load(file, overrides or ()), out, Console())


@app.command()
def rehearse(
    file: File,
    overrides: Overrides = None,
    falls: Annotated[
        str,
        typer.Option("--falls", help="Which: worker,node,data,driver,disk,damage,slow; or all."),
    ] = "all",
) -> None:
    """Let a spec fall at toy size in every way, and see whether it gets up again exactly."""
    with told_plainly("begins anew"), sigterm_is_ctrl_c():
        from jobs.rehearse import rehearse as rehearse_falls

        code = rehearse_falls(file, overrides or (), falls)
    raise typer.Exit(code)


@app.command()
def migrate(
    file: File,
    write: Annotated[bool, typer.Option("--write", help="Replace the file.")] = False,
) -> None:
    """Rewrite a spec of an older version, comments kept; shows what would change."""
    with told_plainly():
        from jobs.migrate import print_migration

        print_migration(file, write)


@app.command()
def schema(
    format: Annotated[
        Literal["json", "markdown"], typer.Option(help="For editors, or for people to read.")
    ] = "json",
) -> None:
    """Print what a spec may say: the JSON Schema, or a reference of every key."""
    with told_plainly():
        from jobs import reference
        from jobs import schema as schemas

        made = {"json": schemas.text, "markdown": reference.text}[format]
        typer.echo(made(), nl=False)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"humpty {installed('humpty')}")


GROUPS = {"Models": model_cli, "Runs": record_cli, "Clusters": submit_cli}

for title, group in GROUPS.items():
    for command in group.app.registered_commands:
        command.rich_help_panel = title
    app.add_typer(group.app)


def main() -> None:
    """The console script `humpty`, and `python -m jobs`."""
    app()
