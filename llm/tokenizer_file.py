"""The tokenizer of an artifact: which file it is, and how it is read, copied and taken over.

tokenizer.model     sentencepiece, trained here or by others (llm/tokenizer.py)
tokenizer.foreign   one of transformers' (llm/foreign_tokenizer.py); only where there is no .model
"""

import shutil
from pathlib import Path

from llm.adopted_tokenizer import adopted
from llm.errors import ArtifactError
from llm.files import write_atomic
from llm.foreign_tokenizer import NAME as FOREIGN
from llm.foreign_tokenizer import ForeignTokenizer
from llm.model_file import with_controls
from llm.tokenizer import TURNS, Tokenizer

SENTENCEPIECE = "tokenizer.model"


def tokenizer_in(folder: Path) -> Path:
    """The tokenizer's file in an artifact's folder."""
    foreign = folder / FOREIGN
    return foreign if foreign.exists() else folder / SENTENCEPIECE


def read_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer of a file."""
    return ForeignTokenizer(path) if Path(path).name.endswith(FOREIGN) else Tokenizer(path)


def copy_tokenizer(source: Path, folder: Path) -> Path:
    """Put a tokenizer into an artifact's folder; returns where it is there."""
    target = folder / (FOREIGN if source.name.endswith(FOREIGN) else SENTENCEPIECE)
    if source.resolve() != target.resolve():
        shutil.copyfile(source, target)
    return target


def take_over(path: Path, folder: Path, *, turns: bool = True) -> Path:
    """Make a tokenizer.json or a .model of others an artifact's; returns where it is there.

    turns: whether a .model gets tokens for turns, too, behind its own, if it has none.
    """
    if path.suffix == ".json":
        target = folder / FOREIGN
        write_atomic(target, adopted(path).to_text())
        return target
    target = folder / SENTENCEPIECE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    write_atomic(target, content)
    if turns and not Tokenizer(target).controls:
        write_atomic(target, with_controls(content, TURNS))
    return target
