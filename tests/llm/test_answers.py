"""The same prompts answered by several models."""

from pathlib import Path

import torch

from llm.answers import answer_all
from llm.artifact import read_model
from llm.chat import Template, Turn
from llm.chat_artifact import write_chat_shape
from llm.config import ModelConfig
from tests.ppo_tasks import SHAPE, write_policy


def two_models(folder: Path) -> dict[str, Path]:
    """A base model and a chat model, of different weights."""
    folders = {"base": folder / "a" / "base", "chat": folder / "b" / "chat"}
    for seed, path in enumerate(folders.values()):
        path.parent.mkdir()
        tokenizer = write_policy(path, even=False, seed=seed)
    write_chat_shape(folders["chat"], ModelConfig(**SHAPE), tokenizer)
    return folders


def likeliest(folder: Path, ids: list[int], end: int, never: tuple[int, ...], count: int) -> str:
    """The likeliest text, by whole passes without a cache."""
    model, tokenizer = read_model(folder)
    written: list[int] = []
    while len(written) < count:
        with torch.no_grad():
            logits = model(torch.tensor([ids + written]))[0, -1]
        logits[list(never)] = -torch.inf
        token = int(logits.argmax())
        if token == end:
            break
        written.append(token)
    return tokenizer.decode(written)


def test_a_chat_model_is_asked_and_a_base_model_continues(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    rows = answer_all(folders, ["abc", "hg"], max_tokens=6)
    assert [row["prompt"] for row in rows] == ["abc", "hg"]
    for row in rows:
        _, tokenizer = read_model(folders["base"])
        ids = [tokenizer.eos, *tokenizer.encode(row["prompt"])]
        base = likeliest(folders["base"], ids, tokenizer.eos, tokenizer.unwritten, 6)
        template = Template(read_model(folders["chat"])[1])
        asked = template.prompt((Turn("user", row["prompt"]),))
        chat = likeliest(folders["chat"], asked, template.end, template.never, 6)
        assert row["answers"] == {"base": base, "chat": chat}


def test_same_folders_same_answers(tmp_path: Path) -> None:
    folders = two_models(tmp_path)
    assert answer_all(folders, ["abc"], 8) == answer_all(folders, ["abc"], 8)
