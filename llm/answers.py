"""The same prompts answered by several models, to see what each stage of training has changed.

Answers are greedy: the likeliest token each time, so the same folder always says the same. A model
with a chat template in its folder is asked as a user asks; one without continues the plain text.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from llm.artifact import read_model
from llm.chat import Template
from llm.chat_artifact import is_chat
from llm.config import SamplingConfig
from llm.generate import write
from llm.reply import reply

NAME = "answers.json"
"""Where a training keeps what it and the models before it answer."""


class Answered(TypedDict):
    """A prompt, and what each model says to it."""

    prompt: str
    answers: dict[str, str]


def answer_all(
    folders: Mapping[str, Path], prompts: Sequence[str], max_tokens: int
) -> list[Answered]:
    """What the models in `folders` answer; one model is in memory at a time."""
    rows: list[Answered] = [{"prompt": prompt, "answers": {}} for prompt in prompts]
    for name, folder in folders.items():
        for row, text in zip(rows, answers_of(folder, prompts, max_tokens), strict=True):
            row["answers"][name] = text
    return rows


def answers_of(folder: Path, prompts: Sequence[str], max_tokens: int) -> Iterator[str]:
    """What one model answers to each prompt."""
    model, tokenizer = read_model(folder)
    if is_chat(folder):
        template = Template(tokenizer)
        yield from (reply(model, template, prompt, max_tokens) for prompt in prompts)
        return
    sampling = SamplingConfig(temperature=0.0, max_tokens=max_tokens)
    for prompt in prompts:
        yield "".join(write(model, tokenizer, prompt, sampling))
