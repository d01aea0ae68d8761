"""A tokenizer in the form that transformers reads: tokenizer.json, with the chat template.

The ids are those of llm.tokenizer, for unigram, bpe and char models (a char model is bpe without
merges); where sentencepiece and the `tokenizers` library differ, the difference is written out:

- Pieces hold real spaces, not U+2581, which then is a character like any other and is spelled.
- Unigram looks up any piece in a text, control symbols and `<0x41>` too. So in the vocabulary each
  "<" of a text's pieces is followed by U+FDD0, and the normalizer writes it so; symbols, whose "<"
  is bare, are found only where the string is cut at them before it is normalised.
- The first U+FDD0 behind "<" of a text is the chat template's (llm/chat.py) and is dropped.
- `normalize: nfkc` is NFKC and then sentencepiece's own table. The two part ways where a letter has
  two marks in an unusual order, or a Korean syllable is followed by a loose final consonant.
- Ties of unigram fall alike since scores are rounded (llm.model_file.rounded_scores).

Other models, and word models, get the template and their .model only: `tokenizers` has nothing that
cuts as they do. A tokenizer that came from transformers (llm/foreign_tokenizer.py) goes back as it
came, with turns, and with the same mark taken away behind whatever its control tokens begin with.
Plain JSON: neither transformers nor tokenizers is needed to write it.
"""

import base64
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm.chat import CHAT_TEMPLATE, END, chat_template
from llm.files import write_atomic, write_json
from llm.foreign_tokenizer import NAME as FOREIGN
from llm.foreign_tokenizer import Parts, read_foreign, steps
from llm.model_file import fields, read_model_file
from llm.tokenizer import BOS, EOS, GUARD, PAD, RESERVED, SPACE, TURNS, UNKNOWN, Tokenizer

Json = dict[str, Any]

TEMPLATE = "chat_template.jinja"

UNIGRAM, WORD, CHAR = 1, 3, 4
"""Field model_type of a sentencepiece model; the other is 2, bpe."""


def write_hf_tokenizer(tokenizer: Path, folder: Path, context: int) -> bool:
    """Write what transformers reads of a chat model; False if there is no exact tokenizer.json."""
    return write_tokenizer_json(tokenizer, folder, context, chat=True)


def write_tokenizer_json(tokenizer: Path, folder: Path, context: int, *, chat: bool) -> bool:
    """tokenizer.json with its config; False if there is none that gives the same ids.

    chat: whether the model was taught to talk, so that its template belongs to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names, template, description = BY_NAME, CHAT_TEMPLATE, None
    if tokenizer.name.endswith(FOREIGN):
        parts = read_foreign(tokenizer)
        names, description = parts.controls, foreign_json(parts, chat)
        template = template_of(parts)
    else:
        description = tokenizer_json(tokenizer, chat)
        if tokenizer.resolve() != (folder / "tokenizer.model").resolve():
            shutil.copyfile(tokenizer, folder / "tokenizer.model")
    if chat:
        write_atomic(folder / TEMPLATE, template)
    if description is None:
        return False
    write_atomic(folder / "tokenizer.json", json.dumps(description, ensure_ascii=False) + "\n")
    write_json(folder / "tokenizer_config.json", tokenizer_config(names, context, chat))
    return True


BY_NAME = {piece: piece for piece in RESERVED}
"""Which pieces do the duty of ours in tokenizers trained here."""


def tokenizer_config(names: Mapping[str, str], context: int, chat: bool) -> Json:
    """What transformers wants to know besides; a model that has learned to chat ends by END."""
    unknown = {"unk_token": names[UNKNOWN]} if UNKNOWN in names else {}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": names[BOS],
        "eos_token": names[END if chat else EOS],
        "pad_token": names[PAD],
        **unknown,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }


def brackets_of(parts: Parts) -> str:
    """The characters that control tokens begin with."""
    return "".join(sorted({one[0] for one in (*parts.specials, *TURNS)}))


def foreign_json(parts: Parts, marks: bool) -> Json:
    """A tokenizer of others; with `marks` it takes those of the template away."""
    whole: Json = json.loads(parts.description)
    if not marks:
        return whole
    behind = "".join(f"\\{one}" if one in r"\[]^-&" else one for one in brackets_of(parts))
    mark = {"type": "Replace", "pattern": {"Regex": f"(?<=[{behind}]){GUARD}"}, "content": ""}
    normalizers = [mark, *steps(whole["normalizer"], "normalizers")]
    return {**whole, "normalizer": {"type": "Sequence", "normalizers": normalizers}}


def is_our_template(text: str, tokenizer: Path) -> bool:
    """Whether a chat template is the one that would be written for a tokenizer."""
    if not tokenizer.name.endswith(FOREIGN):
        return text == CHAT_TEMPLATE
    return text == template_of(read_foreign(tokenizer))


def template_of(parts: Parts) -> str:
    """The chat template for a tokenizer of others."""
    return chat_template(parts.controls[BOS], brackets_of(parts), parts.texts)


def tokenizer_json(path: Path, marks: bool = True) -> Json | None:
    """The description of a tokenizer, if there is one that gives the same ids.

    marks: whether it takes those of the template away; a model that has none needs them not.
    """
    tokenizer = Tokenizer(path)
    proto, model = read_model_file(path)
    sections = fields(proto)
    kind = fields(sections[2]).get(3, UNIGRAM)
    if not tokenizer.trained_here or kind == WORD:
        return None
    texts = [piece.replace(SPACE, " ") for piece in tokenizer.plain_pieces()]
    symbols = [model.id_to_piece(id) for id in range(len(texts))]
    scores = [model.get_score(id) for id in range(len(texts))]
    fallback = bool(tokenizer.byte_ids())
    table: bytes = fields(sections.get(3, b"")).get(2, b"")
    make = unigram if kind == UNIGRAM else bpe
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(id, piece) for id, piece in enumerate(RESERVED)],
        "normalizer": normalizer(
            table, bracket(texts, fallback) if kind == UNIGRAM else "<", marks
        ),
        # Each U+2581 stands alone, as in llm.tokenizer, which spells it.
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"String": SPACE},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": decoder(fallback),
        "model": {**make(texts, symbols, scores), "byte_fallback": fallback},
    }


def added_token(id: int, piece: str) -> Json:
    """A token that strings are cut at before anything else."""
    off = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": piece, **off, "special": True}


def normalizer(table: bytes, bracket: str, marks: bool) -> Json:
    """The template's mark taken away, the model's own table, and "<" as pieces write it."""
    behind = {"Regex": f"(?<=<){GUARD}"}  # the "<" is left alone, so that its offset stays true
    steps: list[Json] = []
    if marks:
        steps.append({"type": "Replace", "pattern": behind, "content": ""})
    if table:
        # The table alone would do, but `tokenizers` loses marks and does not compose kana with it.
        encoded = base64.b64encode(table).decode()
        steps += [{"type": "NFKC"}, {"type": "Precompiled", "precompiled_charsmap": encoded}]
    if bracket != "<":
        steps.append(replace("<", bracket))
    return {"type": "Sequence", "normalizers": steps}


def bracket(texts: list[str], fallback: bool) -> str:
    """How "<" is written for unigram, so that it is found in no symbol.

    Where no token holds it, it is written as the token of its byte, or as a character that is as
    unknown.
    """
    if "<" in texts:
        return "<" + GUARD
    return "<0x3C>" if fallback else GUARD


def decoder(fallback: bool) -> Json:
    """Pieces to text."""
    bytes_too = [{"type": "ByteFallback"}] if fallback else []
    return {
        "type": "Sequence",
        "decoders": [
            replace("<" + GUARD, "<"),
            replace(UNKNOWN, "\N{REPLACEMENT CHARACTER}"),
            *bytes_too,
            {"type": "Fuse"},
        ],
    }


def replace(pattern: str, content: str) -> Json:
    """A step that replaces a string."""
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def unigram(texts: list[str], symbols: list[str], scores: list[float]) -> Json:
    """Pieces and their log-probabilities."""
    names = [
        text.replace("<", "<" + GUARD) or symbol
        for text, symbol in zip(texts, symbols, strict=True)
    ]
    vocab = [list(entry) for entry in zip(names, scores, strict=True)]
    return {"type": "Unigram", "unk_id": 0, "vocab": vocab}


def bpe(texts: list[str], symbols: list[str], scores: list[float]) -> Json:
    """Pieces and all merges that make one of them, the best first.

    sentencepiece joins whichever two neighbours make the best piece, however that was learned.
    """
    ids = {text: id for id, text in enumerate(texts) if text}
    merges = [
        (scores[id], text[:cut], text[cut:])
        for text, id in ids.items()
        for cut in range(1, len(text))
        if text[:cut] in ids and text[cut:] in ids
    ]
    merges.sort(key=lambda merge: (-merge[0], ids[merge[1]], ids[merge[2]]))
    names = (text or symbol for text, symbol in zip(texts, symbols, strict=True))
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": UNKNOWN,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "ignore_merges": False,
        "vocab": {name: id for id, name in enumerate(names)},
        "merges": [[left, right] for _, left, right in merges],
    }
