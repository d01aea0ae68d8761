"""The command line: init, check, plan, run, render, rehearse, generate, serve, chat, key, audit,
diff, lineage, migrate, report, top, schema, version.

Jobs on a cluster: submit, status, logs, stop, resume, list (jobs/submit_cli.py).
torch and ray are imported by the commands that need them, inside, so that everything else answers
at once.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from jobs import submit_cli
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
    """Ask five questions, look at the text and the machine, and write a spec that fits."""
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
def generate(
    file: File,
    overrides: Overrides = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "-p", help="Text to continue; - reads it from stdin."),
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", "-s", help="Name of the stage to write with.")
    ] = None,
) -> None:
    """Let the trained model of a spec write."""
    with told_plainly():
        spec = load(file, overrides or ())
        from jobs.write import generate as generate_text

        generate_text(spec, sys.stdin.read() if prompt == "-" else prompt, stage)


@app.command()
def serve(
    target: Annotated[
        str, typer.Argument(help="A spec, or the folder or URI of a model.", show_default=False)
    ],
    overrides: Overrides = None,
    stage: Annotated[
        str | None, typer.Option("--stage", "-s", help="Name of the serve stage.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: a free one.")] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Ask for no API key; only on 127.0.0.1.")
    ] = False,
    config: Annotated[
        bool, typer.Option("--config", help="Print a configuration for `serve deploy` and end.")
    ] = False,
) -> None:
    """Serve a model: an OpenAI-compatible endpoint and a chat page."""
    with told_plainly():
        from jobs.serving import Start, print_config
        from jobs.serving import serve as serve_models

        start = Start(target, tuple(overrides or ()), stage, port, no_auth)
        if config:
            print_config(start)
        else:
            serve_models(start)


@app.command()
def chat(
    target: Annotated[
        str,
        typer.Argument(
            help="A server's URL, a spec, or the folder of a model.", show_default=False
        ),
    ],
    overrides: Overrides = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A model of the server, a stage of the run.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="API key; else HUMPTY_API_KEY has it.")
    ] = None,
    system: Annotated[str, typer.Option("--system", help="System prompt.")] = "",
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0)] = 0.7,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Length of an answer; else what there is room for.")
    ] = None,
) -> None:
    """Talk to a model in the terminal."""
    with told_plainly():
        from jobs.chat import Wishes
        from jobs.chat import chat as talk_to

        wishes = Wishes(model, key, system, temperature, max_tokens)
        talk_to(target, overrides or (), wishes)


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="Whose key it is.", show_default=False)],
    file: Annotated[
        str, typer.Option("--file", "-f", help="The file that `keys:` of a serve stage names.")
    ] = "keys.txt",
) -> None:
    """Make an API key: shown once, kept as a hash."""
    with told_plainly():
        from jobs.keys import make_key

        make_key(name, file)


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
def migrate(
    file: File,
    write: Annotated[bool, typer.Option("--write", help="Replace the file.")] = False,
) -> None:
    """Rewrite a spec of an older version, comments kept; shows what would change."""
    with told_plainly():
        from jobs.migrate import print_migration

        print_migration(file, write)


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


app.add_typer(submit_cli.app)


def main() -> None:
    """The console script `humpty`, and `python -m jobs`."""
    app()
