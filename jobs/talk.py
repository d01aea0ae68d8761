"""A conversation in the terminal, with a server or with the model of a run.

A question is a line; the answer comes as it is written, and Ctrl-C breaks it off. What was said
stays the context of what follows, until /new. Without a terminal every line of stdin is a question
of the same conversation.
"""

import sys
from collections.abc import Callable, Iterator

from rich.console import Console

from llm.chat import Conversation, Turn
from llm.errors import UserError

Answer = Callable[[Conversation], Iterator[str]]
"""Pieces of the answer to a conversation."""

HELP = "/new begins anew, /system TEXT sets the system prompt, /exit or Ctrl-D ends"


def talk(answer: Answer, console: Console, system: str = "") -> None:
    """Ask and answer until the input ends."""
    if console.is_terminal:
        console.print(HELP, style="dim", highlight=False)
    turns: Conversation = ()
    for line in questions(console):
        match line.split(maxsplit=1):
            case []:
                continue
            case ["/exit" | "/quit"]:
                return
            case ["/new"]:
                turns = ()
            case ["/system", *text]:
                system, turns = " ".join(text), ()
            case [command, *_] if command.startswith("/"):
                console.print(f"{command}: no such command; {HELP}", style="dim", highlight=False)
            case _:
                asked = (*turns, Turn("user", line))
                first = (Turn("system", system),) if system else ()
                said = show(answer((*first, *asked)), console)
                turns = (*asked, Turn("assistant", said))


def questions(console: Console) -> Iterator[str]:
    """Lines of the user."""
    while True:
        try:
            yield input("> " if console.is_terminal and sys.stdin.isatty() else "")
        except EOFError:
            return


def show(pieces: Iterator[str], console: Console) -> str:
    """Print an answer as it comes; what there is of it if it is broken off."""
    said: list[str] = []
    try:
        for piece in pieces:
            said.append(piece)
            console.out(piece, end="", highlight=False)
    except KeyboardInterrupt:
        console.out(" [broken off]", end="", style="dim", highlight=False)
    except UserError as error:
        console.out(str(error), end="", style="red", highlight=False)
    console.out("\n", highlight=False)
    return "".join(said)
