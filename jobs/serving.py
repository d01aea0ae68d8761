"""`python -m jobs serve`: start, tell where it is, follow newer models, end."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from deploy.keys import KeyRing, new_key
from deploy.service import KeySpec, ModelSource, config_yaml
from jobs.served import Serving, Start, find
from llm.errors import UserError

__all__ = ["Start", "print_config", "serve"]

LOOK_AGAIN = 2.0
"""Seconds between looks for newer models."""

KEYS = "HUMPTY_API_KEYS"


def serve(start: Start) -> None:
    """Serve until Ctrl-C or SIGTERM; answers in the making are finished."""
    console = Console()
    serving = find(start)
    for note in serving.notes:
        say(console, note)
    keys, plain = keys_of(serving)
    with console.status("starting Ray"):
        from cluster.session import dashboard, session
        from deploy.serve import start as start_server
    with session(serving.cluster), ended_by_signals() as ended:
        with console.status("loading the models"):
            models = serving.newest()
            feedback = str(serving.feedback) if serving.feedback else None
            server = start_server(
                models, serving.config, keys=keys, feedback=feedback, log=str(serving.log)
            )
        try:
            tell(server.url, models, serving, plain, dashboard(), console)
            while not ended.wait(LOOK_AGAIN):
                follow(server, serving, console)
        finally:
            with console.status("finishing what is being answered"):
                server.stop()
    say(console, "stopped")


def print_config(start: Start) -> None:
    """Print what `serve deploy` of a cluster takes."""
    serving = find(start)
    keys, plain = keys_of(serving)
    if plain is not None:
        raise UserError(
            f"serve: a cluster's keys must last; write `keys: FILE` in the serve stage (python -m "
            f"jobs key NAME makes one), or set {KEYS}"
        )
    feedback = str(serving.feedback) if serving.feedback else None
    print(config_yaml(serving.newest(), serving.config, keys=keys, feedback=feedback), end="")


def keys_of(serving: Serving) -> tuple[KeySpec | None, str | None]:
    """Who may ask, and a key that was made for this time, if none was given."""
    if not serving.config.auth:
        return None, None
    if serving.config.keys is not None:
        KeyRing.of_file(serving.config.keys)  # mistakes in it are told now
        return KeySpec(file=serving.config.keys), None
    if os.environ.get(KEYS):
        return KeySpec(hashes=tuple(KeyRing.of_environment(os.environ[KEYS]).hashes)), None
    plain, _ = new_key("first")
    return KeySpec(hashes=tuple(KeyRing.of_plain(plain).hashes)), plain


def tell(
    url: str,
    models: list[ModelSource],
    serving: Serving,
    plain: str | None,
    dashboard: str | None,
    console: Console,
) -> None:
    """Where everything is."""
    for model in models:
        say(console, f"{model.id:10} {model.folder}")
    with_key = f"{url}/#key={plain}" if plain else f"{url}/"
    say(console, f"chat page  {with_key}")
    say(console, f"API        {url}/v1")
    if plain:
        say(console, f"key        {plain}  (for this time; to keep one: python -m jobs key NAME)")
    if serving.feedback:
        say(console, f"feedback   {serving.feedback}")
    say(console, f"log        {serving.log}")
    if dashboard:
        say(console, f"Ray        {dashboard}")
    say(console, f"Next: open the page, or: python -m jobs chat '{with_key}'; Ctrl-C ends")


def follow(server: "object", serving: Serving, console: Console) -> None:
    """Serve newer models, if there are some."""
    from deploy.serve import Server

    assert isinstance(server, Server)
    models = serving.newest()
    if tuple(models) == server.models:
        return
    old = {model.id: model.artifact for model in server.models}
    try:
        server.swap(models)
    except UserError as error:
        say(console, str(error))
        return
    for model in models:
        if old.get(model.id) != model.artifact:
            say(console, f"{model.id}: {model.artifact} takes the place of {old.get(model.id)}")


@contextmanager
def ended_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; the second of them waits for nothing.

    To be entered once Ray is there, which takes SIGTERM for itself.
    """
    ended = threading.Event()

    def end(*_: object) -> None:
        if ended.is_set():
            raise KeyboardInterrupt
        ended.set()

    before = {one: signal.signal(one, end) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def say(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
