"""A GGUF file, read back with its own package, holds the model that was written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llm.artifact import read_model
from llm.config import RopeConfig, TokenizerConfig
from llm.errors import ArtifactError
from llm.exchange_config import ExportConfig
from llm.gguf_export import export_gguf, neighbours
from llm.hf_import import import_model
from llm.tokenizer import Tokenizer
from llm.tokenizer_trainer import train
from tests.llm.foreign import SAMPLE, write_foreign
from tests.llm.test_exchange import GPT2, LLAMA_3, artifact, tokenizer, write_theirs

gguf = pytest.importorskip("gguf", reason="needs the package gguf: pip install -e '.[gguf]'")

__all__ = ["tokenizer"]  # a fixture


def written(source: Path, folder: Path, **config: Any) -> Any:
    folder.mkdir()
    export_gguf(source, folder, ExportConfig(format="gguf", **config))
    return gguf.GGUFReader(folder / "model.gguf")


def values(reader: Any, key: str) -> Any:
    return reader.fields[key].contents()


def test_tensors_and_sizes_are_those_of_the_model(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = artifact(tmp_path / "ours", tokenizer, chat=True, kv_heads=2, rope=LLAMA_3)
    reader = written(source, tmp_path / "theirs")
    model, _ = read_model(source)
    there = {one.name: torch.tensor(np.array(one.data)) for one in reader.tensors}
    ours = dict(model.named_parameters())
    qkv = ours["blocks.1.attention.qkv.weight"].split((32, 16, 16))
    assert torch.equal(there["token_embd.weight"], ours["embedding.weight"])
    assert torch.equal(there["blk.1.attn_q.weight"], neighbours(qkv[0], 8))
    assert torch.equal(there["blk.1.attn_v.weight"], qkv[2])
    assert torch.equal(there["blk.0.ffn_down.weight"], ours["blocks.0.mlp.out.weight"])
    assert there["rope_freqs.weight"][0] == 1.0 and there["rope_freqs.weight"][-1] == 8.0
    assert "output.weight" not in there, "the head is the embedding"
    assert sum(one.numel() for one in there.values()) == sum(p.numel() for p in ours.values()) + 4
    assert values(reader, "general.architecture") == "llama"
    assert values(reader, "llama.attention.head_count_kv") == 2
    assert values(reader, "llama.rope.freq_base") == 5e5
    assert values(reader, "tokenizer.ggml.model") == "t5"
    assert values(reader, "tokenizer.ggml.eos_token_id") == tokenizer.controls["<|end|>"]
    template = values(reader, "tokenizer.chat_template")
    assert "{%- generation" not in template and "ufdd0" not in template


def test_rows_of_a_head_take_turns() -> None:
    assert neighbours(torch.arange(8), 4).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_gpt_2_stands_upright(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = artifact(tmp_path / "ours", tokenizer, **GPT2, bias=True)
    reader = written(source, tmp_path / "theirs")
    model, _ = read_model(source)
    there = {one.name: torch.tensor(np.array(one.data)) for one in reader.tensors}
    ours = dict(model.named_parameters())
    for theirs, name in {
        "blk.0.attn_qkv.weight": "blocks.0.attention.qkv.weight",
        "blk.0.ffn_up.weight": "blocks.0.mlp.up.weight",
        "blk.1.ffn_down.bias": "blocks.1.mlp.out.bias",
        "position_embd.weight": "positions.weight",
    }.items():
        assert torch.equal(there[theirs], ours[name])


def test_bf16_tensors_are_the_rounded_ones(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = artifact(tmp_path / "ours", tokenizer)
    reader = written(source, tmp_path / "theirs", dtype="bf16")
    model, _ = read_model(source)
    [up] = [one for one in reader.tensors if one.name == "blk.0.ffn_up.weight"]
    assert up.tensor_type == gguf.GGMLQuantizationType.BF16
    bits = torch.tensor(np.array(up.data).view(np.int16)).view(torch.bfloat16)
    assert torch.equal(bits, model.blocks[0].mlp.up.weight.bfloat16())


@pytest.mark.parametrize(
    ("style", "cut"), [("gpt2", "gpt-2"), ("llama3", "llama-bpe"), ("qwen", "not the same")]
)
def test_byte_level_tokenizers_name_their_cut(style: str, cut: str, tmp_path: Path) -> None:
    size = write_foreign(tmp_path / "theirs", style).get_vocab_size()
    write_theirs(tmp_path / "theirs", "llama", size)
    (tmp_path / "ours").mkdir()
    import_model(tmp_path / "theirs", tmp_path / "ours")
    if style == "qwen":  # Llama 3's pattern after NFC is nobody's
        with pytest.raises(ArtifactError, match="cuts text otherwise has no counterpart"):
            written(tmp_path / "ours", tmp_path / "file")
        return
    reader = written(tmp_path / "ours", tmp_path / "file")
    assert values(reader, "tokenizer.ggml.pre") == cut
    tokens = values(reader, "tokenizer.ggml.tokens")
    kinds = values(reader, "tokenizer.ggml.token_type")
    assert tokens[-4:] == ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    assert kinds[-4:] == [3, 3, 3, 3]


def test_what_llama_cpp_cannot_compute_is_said(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = artifact(tmp_path / "ours", tokenizer, mlp="geglu", rope=RopeConfig())
    with pytest.raises(ArtifactError, match="mlp 'geglu' has no counterpart in llama"):
        written(source, tmp_path / "theirs")
    assert not list((tmp_path / "theirs").iterdir())


def test_what_llama_cpp_reads_otherwise_is_said(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    config = ExportConfig(format="gguf")
    figures = export_gguf(artifact(tmp_path / "ours", tokenizer), tmp_path / "theirs", config)
    assert "spelled in bytes" in figures["differs"]
    bare = TokenizerConfig(model="bpe", vocab_size=110, byte_fallback=False)
    train(SAMPLE, bare, tmp_path / "bare.model", seed=0)
    source = artifact(tmp_path / "bare", Tokenizer(tmp_path / "bare.model"))
    with pytest.raises(ArtifactError, match="a bpe model without byte_fallback has no counterpart"):
        written(source, tmp_path / "never")
