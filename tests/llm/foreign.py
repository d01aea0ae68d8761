"""Tokenizers as others make them, small ones, written as folders of transformers."""

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

SAMPLE = [
    "Humpty Dumpty sat on a wall, had a great fall.\n\tif x < 3: return '<|end|>'  # <unk>",
    "Four-score men and four-score more could not make Humpty where he was before.",
    "矮胖子坐墙头，国王所有的马。 one | two > three",
    "aa aaa abab <div class='a'> user assistant system end bos 1234567",
] * 20

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(style: str) -> Any:
    """A byte-level BPE in the manner of gpt2, llama3 or qwen."""
    made = tokenizers.Tokenizer(BPE(ignore_merges=style == "llama3"))
    if style == "gpt2":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        special = ["<|endoftext|>"]
    else:
        split = pre_tokenizers.Split(Regex(LLAMA_3), "isolated")
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
        special = ["<|begin_of_text|>", "<|end_of_text|>", "[INST]"]
    if style == "qwen":
        made.normalizer = normalizers.NFC()
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(SAMPLE, BpeTrainer(vocab_size=400, initial_alphabet=letters))
    made.add_special_tokens(special)
    if style == "qwen":
        made.add_tokens([AddedToken("<think>", normalized=False)])
    return made


def llama_2() -> Any:
    """A BPE in sentencepiece's manner: spaces are U+2581, what is unknown is spelled in bytes."""
    letters = sorted(set("".join(SAMPLE)) - {" ", "\n", "\t"})
    base = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    merges = [("▁", "a"), ("a", "a"), ("o", "n"), ("▁", "on"), ("aa", "a"), ("▁", "▁")]
    vocabulary = [*base, *("".join(pair) for pair in merges)]
    model = BPE(
        {piece: id for id, piece in enumerate(dict.fromkeys(vocabulary))},
        merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


NAMES = {
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
    "qwen": {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    "llama2": {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": "<unk>"},
}
"""What each calls its control tokens; also as transformers once wrote them."""


def write_foreign(folder: Path, style: str) -> Any:
    """tokenizer.json and tokenizer_config.json of one of `NAMES`; returns the tokenizer."""
    made = llama_2() if style == "llama2" else byte_level(style)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **NAMES[style]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return made
