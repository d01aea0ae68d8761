"""One stage to be done, with what it may use; what every kind of stage needs of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from jobs.facts import MANIFEST
from jobs.planned import Plan, StagePlan
from jobs.progress import unheard
from jobs.stages import PYDOC
from llm.files import write_json
from llm.metrics import Emit
from llm.outside import always


@dataclass(frozen=True)
class Work:
    """One stage to be done, and what it may use."""

    plan: Plan
    stage: StagePlan
    console: Console
    fence: Callable[[], bool] = always
    """Whether the stage's folder is still this run's."""
    also: Emit = unheard
    """Hears of a training's events besides the console."""

    @property
    def folder(self) -> Path:
        """The artifact's folder."""
        assert self.stage.folder is not None
        return self.stage.folder

    @property
    def tokenizer(self) -> Path:
        """The tokenizer that the stage builds on."""
        from llm.tokenizer_file import tokenizer_in

        return tokenizer_in(self.parent("tokenizer"))

    def parent(self, key: str) -> Path:
        """The artifact folder of the stage that `key` names."""
        fingerprint = self.stage.parents[key]
        folders = (one.folder for one in self.plan.stages if one.identity == fingerprint)
        return next(folder for folder in folders if folder is not None)

    @property
    def models(self) -> Iterator[StagePlan]:
        """The stages whose model became this one's, the first of them first."""
        if "from" in self.stage.parents:
            fingerprint = self.stage.parents["from"]
            parent = next(one for one in self.plan.stages if one.identity == fingerprint)
            yield from Work(self.plan, parent, self.console).models
            yield parent

    def say(self, text: str) -> None:
        """Print a line as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def with_pydoc_written(shards: tuple[str, ...], work: Work, kind: str = "text") -> tuple[str, ...]:
    """pydoc:// replaced by files; they are written when they are first needed."""
    if shards != (PYDOC,):
        return shards
    from llm.pydoc_pairs import pydoc_pairs_digest, write_pydoc_chats, write_pydoc_pairs
    from llm.pydoc_source import pydoc_digest, write_pydoc

    writers: dict[str, tuple[str, Callable[[Path], list[Path]]]] = {
        "text": (pydoc_digest(), write_pydoc),
        "chats": (pydoc_pairs_digest(), write_pydoc_chats),
        "pairs": (pydoc_pairs_digest(), write_pydoc_pairs),
    }
    digest, write = writers[kind]
    folder = Path(work.plan.spec.storage) / f"pydoc-{kind}-{digest[:12]}"
    if not (folder / MANIFEST).exists():
        with work.console.status("reading Python's documentation"):
            paths = write(folder)
            write_json(folder / MANIFEST, {"files": [path.name for path in paths]})
    return (str(folder / ("*.parquet" if kind == "text" else "*.jsonl")),)
