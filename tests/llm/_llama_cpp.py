"""What llama.cpp makes of a file, for tests: JSON comes in by stdin, JSON goes out by stdout.

Runs where llama-cpp-python is, which has nothing of ours. In: file, ids (a text that is read),
prompt (one that is written on), tokens (how many), texts, chats. Out: logits of each of `ids`, the
tokens written, the ids of each text, and of each chat up to where its answer begins.
"""

import json
import sys
from typing import Any

import llama_cpp
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

FP32 = 0
"""llama.cpp's number of a kind of numbers."""


def main() -> None:
    asked: dict[str, Any] = json.load(sys.stdin)
    model = llama_cpp.Llama(
        asked["file"],
        n_ctx=asked["context"],
        n_threads=1,
        logits_all=True,
        type_k=FP32,
        type_v=FP32,
        flash_attn=False,
        verbose=False,
    )
    model.eval(asked["ids"])
    answer = {"logits": model.scores[: len(asked["ids"])].tolist()}
    model.reset()
    written: list[int] = []
    model.eval(asked["prompt"])
    for _ in range(asked["tokens"]):
        written.append(int(model.scores[model.n_tokens - 1].argmax()))
        model.eval(written[-1:])
    ids = [model.tokenize(one.encode(), add_bos=False, special=False) for one in asked["texts"]]
    chats = [in_ids(model, one) for one in asked["chats"]]
    json.dump({**answer, "written": written, "ids": ids, "chats": chats}, sys.stdout)


def in_ids(model: Any, messages: list[dict[str, str]]) -> list[int]:
    """A conversation by the file's own template."""
    template = model.metadata["tokenizer.chat_template"]
    form = Jinja2ChatFormatter(template=template, eos_token="", bos_token="")
    text = form(messages=messages).prompt
    ids: list[int] = model.tokenize(text.encode(), add_bos=False, special=True)
    return ids


if __name__ == "__main__":
    main()
