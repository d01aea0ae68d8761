"""llama.cpp computes, writes and cuts text as we do, out of the file that we write for it.

It runs where HUMPTY_LLAMA_CPP names a Python whose environment has it:
pip install llama-cpp-python (which compiles it: ten minutes), and here pip install -e '.[gguf]'.
"""

import json
import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from llm.artifact import read_model
from llm.chat import Template, Turn
from llm.config import RopeConfig, SamplingConfig, TokenizerConfig
from llm.exchange_config import ExportConfig
from llm.generate import generate
from llm.gguf_export import export_gguf
from llm.hf_import import import_model
from llm.tokenizer import SPACE, Tokenizer
from llm.tokenizer_trainer import train
from tests.hostile import hostile
from tests.llm.foreign import SAMPLE, write_foreign
from tests.llm.test_exchange import GPT2, LLAMA_3, artifact, tokenizer, write_theirs

pytestmark = pytest.mark.skipif(
    "HUMPTY_LLAMA_CPP" not in os.environ,
    reason="HUMPTY_LLAMA_CPP names no Python with llama-cpp-python",
)

__all__ = ["tokenizer"]  # a fixture

SHAPES: dict[str, dict[str, Any]] = {
    "the default": {},
    "llama 3": {"kv_heads": 2, "rope": LLAMA_3, "tied": False},
    "linear": {"rope": RopeConfig(scaling="linear", factor=2)},
    "qwen 2": {"kv_heads": 1, "qkv_bias": True},
    "qwen 3": {"kv_heads": 2, "qk_norm": True},
    "gpt 2": {**GPT2, "bias": True},
}


Chat = list[dict[str, str]]


def asked(
    artifact: Path, folder: Path, texts: Sequence[str] = (), chats: Sequence[Chat] = ()
) -> tuple[list[int], dict[str, Any]]:
    """Ids that both have read, and what llama.cpp makes of them."""
    folder.mkdir()
    export_gguf(artifact, folder, ExportConfig(format="gguf"))
    model, tokenizer = read_model(artifact)
    draw = torch.Generator().manual_seed(2)
    ids = torch.randint(tokenizer.vocab_size, (31,), generator=draw).tolist()
    told = {
        "file": str(folder / "model.gguf"),
        "context": model.config.context,
        "ids": ids,
        "prompt": ids[:9],
        "tokens": 64,
        "texts": texts,
        "chats": chats,
    }
    script = Path(__file__).with_name("_llama_cpp.py")
    run = subprocess.run(
        [os.environ["HUMPTY_LLAMA_CPP"], str(script)],
        input=json.dumps(told),
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return ids, json.loads(run.stdout)


def assert_computes_the_same(artifact: Path, ids: list[int], found: dict[str, Any]) -> None:
    """Logits to 1e-4, and 64 tokens."""
    model, _ = read_model(artifact)
    with torch.inference_mode():
        logits = model(torch.tensor([ids]))[0]
    close = 1e-3 if model.config.mlp == "gelu_tanh" else 1e-4  # llama.cpp's GELU is a table in fp16
    torch.testing.assert_close(torch.tensor(found["logits"]), logits, atol=close, rtol=close)
    greedy = SamplingConfig(temperature=0, max_tokens=64)
    assert found["written"] == list(generate(model, ids[:9], greedy, end=None))


def trained(path: Path, **config: Any) -> Tokenizer:
    """A tokenizer of ours."""
    train(SAMPLE, TokenizerConfig(**config), path, seed=0)
    return Tokenizer(path)


def cut_otherwise(tokenizer: Tokenizer, texts: list[str], found: dict[str, Any]) -> list[str]:
    """Texts that llama.cpp gives other ids."""
    pairs = zip(texts, found["ids"], strict=True)
    return [text for text, ids in pairs if ids != list(tokenizer.encode(text))]


@pytest.mark.parametrize("kind", SHAPES)
def test_models_compute_and_write_the_same(kind: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = artifact(tmp_path / "ours", tokenizer, **SHAPES[kind])
    assert_computes_the_same(source, *asked(source, tmp_path / "theirs"))


TOKENIZERS: dict[str, dict[str, Any]] = {
    "bpe": {"model": "bpe", "vocab_size": 345, "byte_fallback": True},
    "char": {"model": "char", "byte_fallback": False},
    "char, bytes": {"model": "char", "byte_fallback": True},
    "char, nfkc": {"model": "char", "byte_fallback": False, "normalize": "nfkc"},
    "unigram": {"model": "unigram", "vocab_size": 90, "byte_fallback": False},
    "unigram, nfkc": {
        "model": "unigram",
        "vocab_size": 90,
        "byte_fallback": False,
        "normalize": "nfkc",
    },
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_our_tokenizers_cut_hostile_texts_the_same(kind: str, tmp_path: Path) -> None:
    tokenizer = trained(tmp_path / "trained.model", **TOKENIZERS[kind])
    texts = [text for text in hostile(600, seed=6) if SPACE not in text]
    assert len(texts) >= 500
    _, found = asked(artifact(tmp_path / "ours", tokenizer), tmp_path / "theirs", texts)
    assert cut_otherwise(tokenizer, texts, found) == []


def test_unigram_models_with_bytes_differ_where_they_spell_and_nowhere_else(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    spelled = {id for id in tokenizer.byte_ids() if tokenizer.piece(id).startswith("<0x")}
    letters = [one for one in set("".join(SAMPLE)) if not spelled & set(tokenizer.encode(one))]
    draw = random.Random(8)
    known = ["".join(draw.choices(sorted(letters), k=draw.randrange(60))) for _ in range(250)]
    strange = [one for one in hostile(250, seed=9) if spelled & set(tokenizer.encode(one))]
    assert len(strange) > 200
    _, found = asked(artifact(tmp_path / "ours", tokenizer), tmp_path / "theirs", known + strange)
    assert cut_otherwise(tokenizer, known + strange, found) == strange
    assert all(tokenizer.unknown in ids for ids in found["ids"][len(known) :])


@pytest.mark.parametrize("style", ["gpt2", "llama3"])
def test_tokenizers_of_others_cut_hostile_texts_the_same(style: str, tmp_path: Path) -> None:
    size = write_foreign(tmp_path / "theirs", style).get_vocab_size()
    write_theirs(tmp_path / "theirs", "llama", size)
    (tmp_path / "ours").mkdir()
    import_model(tmp_path / "theirs", tmp_path / "ours")
    texts = hostile(500, seed=7)
    ids, found = asked(tmp_path / "ours", tmp_path / "file", texts)
    assert_computes_the_same(tmp_path / "ours", ids, found)
    _, tokenizer = read_model(tmp_path / "ours")
    assert cut_otherwise(tokenizer, texts, found) == []


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_chat_is_the_same_tokens_up_to_its_answer(kind: str, tmp_path: Path) -> None:
    config = {"model": kind, "vocab_size": 345, "byte_fallback": True}
    tokenizer = trained(tmp_path / "trained.model", **config)
    template = Template(tokenizer)
    turns = [Turn("system", "sat on"), Turn("user", "a wall,\nhad"), Turn("assistant", "a fall")]
    conversations = [turns[:2], turns[1:2], [*turns, Turn("user", "men  could")]]
    chats = [[{"role": turn.role, "content": turn.text} for turn in one] for one in conversations]
    source = artifact(tmp_path / "ours", tokenizer, chat=True)
    _, found = asked(source, tmp_path / "theirs", chats=chats)
    assert found["chats"] == [template.prompt(one) for one in conversations]
