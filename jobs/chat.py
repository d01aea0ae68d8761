"""`python -m jobs chat`: whom to talk to, a server, a run or an artifact."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from jobs.client import Server
from jobs.facts import gather
from jobs.load import load
from jobs.plan import resolve
from jobs.talk import Answer, talk
from jobs.write import choose_model
from llm.chat import Conversation
from llm.config import SamplingConfig
from llm.errors import ArtifactError


@dataclass(frozen=True)
class Wishes:
    """What the command line says besides whom to talk to."""

    model: str | None = None
    """A model of the server, or a stage of the run."""
    key: str | None = None
    system: str = ""
    temperature: float = 0.7
    max_tokens: int | None = None
    """None: as many as the model has room for; here at most half of its context."""


def chat(target: str, overrides: Sequence[str], wishes: Wishes) -> None:
    """Talk to a server (http://...), to the newest model of a spec, or to an artifact's folder."""
    console = Console()
    if target.startswith(("http://", "https://")):
        answer = of_server(Server(target, wishes.key, wishes.model), wishes, console)
    elif Path(target).is_dir():
        answer = of_folder(Path(target), None, wishes, console)
    else:
        spec = load(target, overrides)
        facts = gather(spec)
        folder, weights, _ = choose_model(resolve(spec, facts), facts, wishes.model, console)
        answer = of_folder(folder, weights, wishes, console)
    talk(answer, console, wishes.system)


def of_server(server: Server, wishes: Wishes, console: Console) -> Answer:
    """Answers of a server."""
    console.print(f"{server.model} at {server.base}", style="dim", highlight=False)
    length = {} if wishes.max_tokens is None else {"max_completion_tokens": wishes.max_tokens}
    return lambda asked: server.answer(asked, temperature=wishes.temperature, **length)


def of_folder(folder: Path, weights: Path | None, wishes: Wishes, console: Console) -> Answer:
    """Answers of a model in this process."""
    from llm.artifact import read_model
    from llm.chat_artifact import is_chat
    from llm.reply import reply_in_pieces

    if not is_chat(folder):
        raise ArtifactError(
            f"{folder}: this model was not taught to talk, it only continues texts; talk to one of "
            "a stage sft, dpo or ppo, or let this one write: python -m jobs generate FILE"
        )
    model, tokenizer = read_model(folder, weights)
    sampling = SamplingConfig(
        temperature=wishes.temperature,
        max_tokens=min(wishes.max_tokens or model.config.context, model.config.context // 2),
    )
    console.print(f"{folder}", style="dim", highlight=False)

    def answer(asked: Conversation) -> Iterator[str]:
        return reply_in_pieces(model, tokenizer, asked, sampling)

    return answer
