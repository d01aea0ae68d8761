"""What becomes of a tokenizer.json of others and of the files beside it: a tokenizer.foreign.

What changes on the way is told at the top of llm/foreign_tokenizer.py.
"""

import json
from pathlib import Path

from llm.errors import ArtifactError
from llm.foreign_tokenizer import Json, Parts, loaded, steps
from llm.tokenizer import BOS, EOS, GUARD, PAD, TURNS


def adopted(path: Path) -> Parts:
    """What becomes of a tokenizer.json and of the files beside it."""
    missing: Json = {"normalizer": None, "pre_tokenizer": None, "decoder": None, "added_tokens": []}
    whole: Json = missing | json_of(path)
    refuse_strange(whole, path)
    controls = controls_in(path, whole)
    whole |= {"truncation": None, "padding": None, "post_processor": None}
    whole["normalizer"] = without_marks(whole.get("normalizer"))
    for token in whole["added_tokens"]:
        if token["content"] in (*controls.values(), *TURNS):
            token["special"] = True
        if token["special"]:  # found before normalisation or not at all, and nothing beside it
            token |= {"normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
    for step in (whole["pre_tokenizer"], whole["decoder"]):
        for one in steps(step, "pretokenizers" if step is whole["pre_tokenizer"] else "decoders"):
            if one.get("prepend_scheme") == "first":  # each text of a conversation is one
                one["prepend_scheme"] = "always"
    fast = loaded(json.dumps(whole), path)
    from tokenizers import AddedToken

    there = fast.get_vocab(with_added_tokens=True)
    wanted = [one for one in (*controls.values(), *TURNS) if not is_special(whole, one)]
    fast.add_special_tokens([AddedToken(one, normalized=False) for one in dict.fromkeys(wanted)])
    names = {turn: turn for turn in TURNS}
    unknown = [one for one in controls.values() if one not in there]
    if unknown:
        raise ArtifactError(
            f"{path.parent / 'tokenizer_config.json'}: {unknown[0]!r} is no token of {path.name}; "
            "name one that is, or save the tokenizer again with transformers"
        )
    return Parts({**controls, **names}, fast.to_str())


def without_marks(normalizer: Json | None) -> Json | None:
    """A normalizer as it was before `llm.hf_tokenizer` made it take the template's marks away."""
    first, *rest = steps(normalizer, "normalizers") or [{}]
    if GUARD not in first.get("pattern", {}).get("Regex", ""):
        return normalizer
    return {"type": "Sequence", "normalizers": rest} if rest else None


def is_special(whole: Json, piece: str) -> bool:
    """Whether a piece is a control token already."""
    return any(one["content"] == piece and one["special"] for one in whole["added_tokens"])


def json_of(path: Path) -> Json:
    """A JSON file that has to be there."""
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
        return value
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path}: cannot be read ({error}); save it again with transformers, or copy it again"
        ) from error


DECODERS = {"ByteLevel", "Metaspace", "ByteFallback", "Replace", "Fuse", "Strip"}
"""Ways to make text of pieces that are understood here."""


def refuse_strange(whole: Json, path: Path) -> None:
    """Tokenizers whose pieces are no text, such as BERT's."""
    kind = (whole.get("model") or {}).get("type")
    if kind not in ("BPE", "Unigram"):
        raise ArtifactError(
            f"{path}: model.type {kind!r} is not supported; BPE and Unigram are: take a model with "
            "such a tokenizer"
        )
    known = {one["type"] for one in steps(whole.get("decoder"), "decoders")}
    if not known or known - DECODERS:
        raise ArtifactError(
            f"{path}: decoder {sorted(known) or None} is not supported; {', '.join(DECODERS)} are"
        )


def controls_in(path: Path, whole: Json) -> dict[str, str]:
    """Which tokens begin, end and fill up texts, as tokenizer_config.json or config.json says."""
    config = path.parent / "tokenizer_config.json"
    told = json_of(config) if config.exists() else {}
    shape = path.parent / "config.json"
    ids = json_of(shape) if shape.exists() else {}
    by_id = {one["id"]: one["content"] for one in whole["added_tokens"]}

    def named(role: str) -> str | None:
        value = told.get(f"{role}_token")
        value = value["content"] if isinstance(value, dict) else value
        if value and value not in TURNS:
            return str(value)
        id = ids.get(f"{role}_token_id")  # of a chat model of ours [end of turn, end of text]
        return by_id.get(id[-1] if isinstance(id, list) and id else id)

    eos = named("eos")
    if eos is None:
        raise ArtifactError(
            f"{config}: eos_token is missing, which separates documents; allowed: the name of a "
            "token of tokenizer.json; write it there"
        )
    return {BOS: named("bos") or eos, EOS: eos, PAD: named("pad") or eos}
