"""An artifact of ours as one file for llama.cpp, written with its own package `gguf`.

Names and shapes are those of transformers (llm/hf_names.py) under the names of llama.cpp. Its Llama
turns neighbouring features against each other where transformers and we turn halves, so rows of
queries and keys are sorted accordingly; Qwen's stay. Scaled rotations travel as a table of what
each pair's speed is divided by.

E features of a head.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llm.artifact import read_shape
from llm.chat import END, chat_template
from llm.chat_artifact import is_chat
from llm.config import ModelConfig, RopeConfig
from llm.errors import ArtifactError
from llm.exchange_config import ExportConfig
from llm.foreign_tokenizer import ForeignTokenizer
from llm.gguf_tokenizer import described
from llm.hf_export import Reader
from llm.hf_names import entries, upright
from llm.hf_shape import ARCHITECTURES, Family, fitting_family, require_known
from llm.model_card import Lineage
from llm.positions import speeds
from llm.reward import NAME as REWARD
from llm.tokenizer import BOS, PAD, Tokenizer
from llm.tokenizer_file import read_tokenizer, tokenizer_in

FILE = "model.gguf"

INSTALL = "pip install -e '.[gguf]' (or: pip install gguf)"

FILE_TYPES = {"fp32": "ALL_F32", "fp16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"}

BLOCK_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}

OUTER_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
}


def export_gguf(
    artifact: Path, folder: Path, config: ExportConfig, lineage: Lineage = ()
) -> dict[str, Any]:
    """Fill `folder` with one file; returns what there is to say about it."""
    gguf = package(artifact)
    if (artifact / REWARD).exists():
        raise ArtifactError(
            f"{artifact}: a reward model does not write; write format: transformers"
        )
    model, vocab = read_shape(artifact)
    family = fitting_family(model, artifact / "model.json")
    require_known(model, family, artifact / "model.json")
    tokenizer = read_tokenizer(tokenizer_in(artifact))
    temporary = folder / f".{FILE}.tmp"
    writer = gguf.GGUFWriter(temporary, arch=family)
    writer.add_name(lineage[-1].name if lineage else "model")
    writer.add_vocab_size(vocab)
    writer.add_file_type(getattr(gguf.LlamaFileType, FILE_TYPES[config.dtype]))
    say_shape(writer, model, family, gguf.RopeScalingType)
    differs = say_tokenizer(writer, tokenizer, is_chat(artifact))
    kind = gguf.GGMLQuantizationType
    for name, tensor in tensors(artifact, model, family, vocab):
        small = tensor.dim() == 1 or name.startswith("position")  # as llama.cpp wants them
        write_tensor(writer, name, tensor, "fp32" if small else config.dtype, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.replace(folder / FILE)
    return {
        "vocab_size": vocab,
        "architecture": ARCHITECTURES[family],
        "dtype": config.dtype,
        "files": 1,
        "bytes": (folder / FILE).stat().st_size,
        **({"differs": differs} if differs else {}),
    }


def package(artifact: Path) -> Any:
    """The package that knows the format."""
    try:
        import gguf
    except ImportError as error:
        raise ArtifactError(
            f"{artifact}: format gguf needs the package gguf, which is not installed; {INSTALL}"
        ) from error
    return gguf


def say_shape(writer: Any, model: ModelConfig, family: Family, scaling: Any) -> None:
    """The sizes."""
    features = model.width // model.heads
    writer.add_context_length(model.context)
    writer.add_embedding_length(model.width)
    writer.add_block_count(model.depth)
    writer.add_feed_forward_length(model.hidden)
    writer.add_head_count(model.heads)
    if family == "gpt2":
        writer.add_layer_norm_eps(model.norm_eps)
        return
    writer.add_head_count_kv(model.kv_heads)
    writer.add_key_length(features)
    writer.add_value_length(features)
    writer.add_layer_norm_rms_eps(model.norm_eps)
    writer.add_rope_dimension_count(features)
    writer.add_rope_freq_base(model.rope.base)
    if model.rope.scaling == "linear":
        writer.add_rope_scaling_type(scaling.LINEAR)
        writer.add_rope_scaling_factor(model.rope.factor)


def say_tokenizer(writer: Any, tokenizer: Tokenizer, chat: bool) -> str:
    """Tokens, what they are, and which of them begin and end texts; returns what llama.cpp reads
    otherwise."""
    told = described(tokenizer)
    writer.add_tokenizer_model(told.model)
    writer.add_tokenizer_pre(told.pre)
    writer.add_token_list(told.tokens)
    writer.add_token_types(told.kinds)
    if told.scores:
        writer.add_token_scores(told.scores)
    if told.merges:
        writer.add_token_merges(told.merges)
    if told.normalizer:
        writer.add_precompiled_charsmap(told.normalizer)
    if told.model != "gpt2":
        writer.add_add_space_prefix(False)
        writer.add_remove_extra_whitespaces(False)
    ids = tokenizer.controls
    writer.add_bos_token_id(ids[BOS])
    writer.add_eos_token_id(ids[END] if chat else tokenizer.eos)
    writer.add_pad_token_id(ids[PAD])
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    if tokenizer.unknown is not None:
        writer.add_unk_token_id(tokenizer.unknown)
    if chat:
        writer.add_eot_token_id(ids[END])
        writer.add_chat_template(template_of(tokenizer))
    return told.differs


def template_of(tokenizer: Tokenizer) -> str:
    """The chat template without what only transformers knows, and without marks behind brackets.

    llama.cpp has nothing that takes them away: there a text is what its author makes of it.
    """
    bos = tokenizer.parts.controls[BOS] if isinstance(tokenizer, ForeignTokenizer) else BOS
    template = chat_template(bos, brackets="")
    return template.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")


def tensors(
    artifact: Path, model: ModelConfig, family: Family, vocab: int
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by llama.cpp's name, upright, in fp32."""
    if family != "gpt2" and model.rope.scaling == "llama3":
        yield "rope_freqs.weight", slowed(model)
    read = Reader(artifact / "model.safetensors")
    for entry in entries(model, family, vocab):
        for number, theirs in enumerate(entry.theirs):
            tensor = upright(theirs, entry.part(read(entry.ours), number))
            name = gguf_name(theirs)
            if family == "llama" and name.rsplit(".", 1)[0].endswith(("attn_q", "attn_k")):
                tensor = neighbours(tensor, model.width // model.heads)
            yield name, tensor.contiguous()


def gguf_name(theirs: str) -> str:
    """`model.layers.0.mlp.up_proj.weight` is `blk.0.ffn_up.weight`."""
    stem, kind = theirs.rsplit(".", 1)
    if stem in OUTER_NAMES:
        return f"{OUTER_NAMES[stem]}.{kind}"
    _, _, number, part = stem.split(".", 3)
    return f"blk.{number}.{BLOCK_NAMES[part]}.{kind}"


def neighbours(rows: Tensor, features: int) -> Tensor:
    """Of every head's rows the two halves in turns: 0, E/2, 1, E/2 + 1, ..."""
    heads = rows.unflatten(0, (-1, 2, features // 2))  # (heads, 2, E / 2, ...)
    return heads.transpose(1, 2).flatten(0, 2)


def slowed(model: ModelConfig) -> Tensor:
    """What each pair's speed is divided by, (E / 2,)."""
    features = model.width // model.heads
    return speeds(features, RopeConfig(base=model.rope.base)) / speeds(features, model.rope)


def write_tensor(writer: Any, name: str, tensor: Tensor, dtype: str, kinds: Any) -> None:
    """A tensor in the numbers of the file; numpy has no bf16, which goes as its bytes."""
    if dtype == "bf16":
        raw = tensor.bfloat16().view(torch.int16).numpy().view(np.uint8)
        writer.add_tensor(name, raw, raw_dtype=kinds.BF16)
    else:
        number = torch.float16 if dtype == "fp16" else torch.float32
        writer.add_tensor(name, tensor.to(number).numpy())
