"""The command line of models: generate, serve, chat, key."""

import sys
from typing import Annotated

import typer

from jobs.load import load
from jobs.plainly import File, Overrides, told_plainly

app = typer.Typer()


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
