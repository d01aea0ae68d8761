"""`python -m jobs init`: a few questions, a look at the data and the machine, a spec that fits.

    answers -> look (jobs/found.py) -> sizes (jobs/sized.py) -> draft (jobs/draft.py) -> check, plan

Every question is also an option. What is written has passed `check` and `plan`; a file that is
there is never overwritten without a word.
"""

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from jobs.draft import FAMILIES, Draft, Purpose, found, in_words, mess, written
from jobs.facts import gather
from jobs.found import Text, look, named_after
from jobs.found_rows import RowSet, sets_at
from jobs.load import load
from jobs.machine import this_machine
from jobs.plan import resolve
from jobs.planned import Plan
from jobs.rules import RUN_NAME
from jobs.show import near, say, shape
from jobs.sized import Sizes, sizes
from jobs.stages import PYDOC, PretrainStage
from llm.errors import SpecError, UserError
from llm.files import write_atomic
from llm.metrics import duration, quantity, size_of

T = TypeVar("T")

PURPOSES: tuple[Purpose, ...] = ("text", "fill", "chat")
MINUTES = 20.0
LEAST_MINUTES = 1.0


@dataclass(frozen=True)
class Wishes:
    """What the command line says; what is None or empty is asked."""

    text: tuple[str, ...] = ()
    purpose: str | None = None
    chats: tuple[str, ...] = ()
    comparisons: tuple[str, ...] = ()
    minutes: str | None = None
    name: str | None = None
    out: Path | None = None
    yes: bool = False
    force: bool = False


class Questions:
    """Asks on a terminal, again where the answer will not do; elsewhere takes the defaults."""

    def __init__(self, console: Console, asks: bool) -> None:
        self.console, self.asks = console, asks
        self.number = 0

    def ask(self, question: str, default: str, understood: Callable[[str], T]) -> T:
        """The answer as `understood` makes it, which may raise a UserError."""
        if not self.asks:
            return understood(default)
        self.number += 1
        say(self.console, f"{self.number}. {question}", style="bold")
        while True:
            try:
                return understood(read_line(f"   [{default}] " if default else "   ") or default)
            except UserError as error:
                say(self.console, f"   {error}", style="yellow")


def init(wishes: Wishes) -> None:
    """Ask what is not known, look, and write the spec."""
    console = Console()
    asks = sys.stdin.isatty() and console.is_terminal and not wishes.yes
    if not asks:
        require_options(wishes)
    draft = drafted(wishes, Questions(console, asks), console)
    if not (wishes.force or may_write(draft.out, asks, console)):
        raise SpecError(
            f"{near(draft.out)}: is there already and stays as it is; say --force, or "
            "--out ANOTHER_FILE"
        )
    plan = checked(draft)
    write_atomic(draft.out, written(draft))
    tell(plan, draft, console)


def require_options(wishes: Wishes) -> None:
    """Where nobody can be asked, everything has to be said."""
    missing = {
        "--text FOLDER (or pydoc://)": not wishes.text,
        "--for text|fill|chat": wishes.purpose is None,
        "--minutes N": wishes.minutes is None,
        "--name NAME": wishes.name is None,
    }
    if not wishes.yes and any(missing.values()):
        wanted = " ".join(option for option, is_missing in missing.items() if is_missing)
        raise SpecError(
            f"init: this is no terminal, so nothing can be asked; give {wanted}, or --yes for "
            "the defaults"
        )


def may_write(path: Path, asks: bool, console: Console) -> bool:
    """Whether a file is new, or may be overwritten."""
    if not path.exists() or not asks:
        return not path.exists()
    say(console, f"{near(path)} is there already; overwrite it? (y or n)", style="bold")
    return read_line("[n] ").lower() in ("y", "yes")


def read_line(prompt: str) -> str:
    """What is typed; the end of the input is Ctrl-C."""
    try:
        return input(prompt).strip()
    except EOFError:
        raise KeyboardInterrupt from None


# -- the questions ---------------------------------------------------------------------------------


def drafted(wishes: Wishes, questions: Questions, console: Console) -> Draft:
    """The answers, and what follows from them."""
    places, text = text_of(wishes, questions)
    for line in (*found(text), *(f"left out: {one}" for one in text.left_out)):
        say(console, f"   {line}")
    purpose = purpose_of(wishes, questions, text)
    sets = sets_of(wishes, questions, text, places) if purpose == "chat" else ()
    seconds = seconds_of(wishes, questions)
    name = name_of(wishes, questions, places)
    machine = this_machine("runs")
    cleaned = bool(mess(text))
    made = sizes(text, sets, FAMILIES[purpose], seconds, machine, cleaned)
    out = Path(os.path.abspath(wishes.out or f"{name}.yaml"))
    return Draft(name, purpose, text, sets, made, machine, seconds, out)


def text_of(wishes: Wishes, questions: Questions) -> tuple[tuple[str, ...], Text]:
    """Where the text is, and what it is."""
    if wishes.text:
        return wishes.text, look(wishes.text)
    usual = next((one for one in ("text", "texts", "data", "corpus") if Path(one).is_dir()), PYDOC)
    ask = "Where is the text? A file, folder, glob or URI"
    return questions.ask(ask, usual, lambda answer: ((answer,), look([answer])))


def purpose_of(wishes: Wishes, questions: Questions, text: Text) -> Purpose:
    """What the model is for."""
    if wishes.purpose is not None:
        return understood_purpose(wishes.purpose)
    talks = wishes.chats or any(not rows.compares for rows in text.sets)
    ask = "What shall it do? text: continue it, fill: put words into gaps, chat: answer"
    return questions.ask(ask, "chat" if talks else "text", understood_purpose)


def understood_purpose(answer: str) -> Purpose:
    """One of the three."""
    for purpose in PURPOSES:
        if purpose == answer.lower():
            return purpose
    raise SpecError(f"--for: {answer!r} is not allowed; give one of {', '.join(PURPOSES)}")


def sets_of(
    wishes: Wishes, questions: Questions, text: Text, places: tuple[str, ...]
) -> tuple[RowSet, ...]:
    """Conversations and comparisons: those that are named, else those that lie with the text."""
    chats = [rows for rows in text.sets if not rows.compares]
    compared = [rows for rows in text.sets if rows.compares]
    own = PYDOC if places == (PYDOC,) else ""
    if wishes.chats:
        chats = named(wishes.chats, False)
    elif not chats:
        ask = "Where are conversations to learn answering from? A file or folder"
        chats = questions.ask(ask, own, lambda answer: named((required(answer),), False))
    if wishes.comparisons:
        compared = named(wishes.comparisons, True)
    elif not compared:
        ask = "Where are comparisons of answers? A file or folder; empty: none"
        compared = questions.ask(ask, own, lambda answer: named((answer,), True) if answer else [])
    for rows in (*chats, *compared):
        say(questions.console, f"   {in_words(rows)}")
    return (*chats, *compared)


def named(places: tuple[str, ...], compares: bool) -> list[RowSet]:
    """The sets at some places."""
    return [rows for place in places for rows in sets_at(place, compares)]


def required(answer: str) -> str:
    """Something was said."""
    if not answer:
        raise SpecError("--chats: a model that answers needs conversations; give a file of them")
    return answer


def seconds_of(wishes: Wishes, questions: Questions) -> float:
    """How long it may take."""
    if wishes.minutes is not None:
        return understood_time(wishes.minutes)
    ask = "How long may it take? Minutes, or 2h, 3d"
    return questions.ask(ask, f"{MINUTES:g}", understood_time)


UNITS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


def understood_time(answer: str) -> float:
    """Seconds."""
    unit = UNITS.get(answer[-1:].lower(), 60.0)
    try:
        seconds = float(answer.lower().rstrip("mhd").strip()) * unit
        if not LEAST_MINUTES * 60 <= seconds <= 366 * 86400:
            raise ValueError
    except ValueError:
        what = "give minutes from 1 on, or hours and days such as 2h, 3d"
        raise SpecError(f"--minutes: {answer!r} is not allowed; {what}") from None
    return seconds


def name_of(wishes: Wishes, questions: Questions, places: tuple[str, ...]) -> str:
    """What the run is called."""
    if wishes.name is not None:
        return understood_name(wishes.name)
    return questions.ask("What is it called?", named_after(places), understood_name)


def understood_name(answer: str) -> str:
    """A folder's name."""
    if not RUN_NAME.fullmatch(answer):
        raise SpecError(f"--name: {answer!r} is not allowed; use letters, digits and ._-")
    return answer


# -- the end ---------------------------------------------------------------------------------------


def checked(draft: Draft) -> Plan:
    """The plan of what is to be written; it is read as `check` and `plan` read it."""
    path = draft.out.with_name(f".{draft.out.name}.{os.getpid()}.yaml")
    try:
        write_atomic(path, written(draft))
        spec = load(str(path))
        return resolve(spec, gather(spec))
    finally:
        path.unlink(missing_ok=True)


def tell(plan: Plan, draft: Draft, console: Console) -> None:
    """What was written, what it will be, and what comes next."""
    stages = " -> ".join(stage.name for stage in plan.stages)
    say(console, f"\n{near(draft.out)} is written and valid: {stages}", style="bold")
    for name, value in told(plan, draft.sizes):
        say(console, f"   {name:10} {value}")
    say(console, "Next:")
    for verb in ("plan", "run"):
        say(console, f"  python -m jobs {verb} {shlex.quote(near(draft.out))}")


def told(plan: Plan, made: Sizes) -> list[tuple[str, str]]:
    """The model and its costs."""
    stage = plan.by_name["pretrain"]
    if not isinstance(stage.stage, PretrainStage) or stage.estimate is None:
        return [("time", f"about {duration(made.seconds)}")]
    one, cost = stage.stage, stage.estimate
    memory = size_of(sum(cost.bytes_per_worker.values()))
    count = sum(cost.parameters.values())
    return [
        ("model", f"{quantity(count)} parameters: {shape(one.model)}"),
        (
            "training",
            f"{one.steps:,} steps, {quantity(one.tokens)} tokens, {duration(cost.seconds)}",
        ),
        ("memory", f"{memory} for each of {plan.cluster.most_workers} workers"),
        ("time", f"about {duration(made.seconds)} in all, {cost.speed}"),
    ]
