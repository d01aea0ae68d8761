"""Tokenizers of others give the ids that they give in transformers, and go back there whole."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tokenizers
import transformers

from llm.chat import Template, Turn
from llm.errors import ArtifactError
from llm.hf_tokenizer import write_hf_tokenizer
from llm.tokenizer import TURNS, Decoder
from llm.tokenizer_file import read_tokenizer, take_over
from tests.hostile import hostile
from tests.llm.foreign import NAMES, SAMPLE, write_foreign


class Pair:
    """A tokenizer of others as we read it, and as transformers reads what we write of it."""

    def __init__(self, folder: Path, style: str) -> None:
        self.original = write_foreign(folder / "theirs", style)
        (folder / "ours").mkdir()
        path = take_over(folder / "theirs" / "tokenizer.json", folder / "ours")
        self.ours = read_tokenizer(path)
        self.template = Template(self.ours)
        assert write_hf_tokenizer(path, folder / "ours", context=1 << 20)
        self.theirs = transformers.AutoTokenizer.from_pretrained(folder / "ours")


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Pair:
    return Pair(tmp_path_factory.mktemp(request.param), request.param)


def test_500_hostile_texts_give_the_ids_of_the_original(pair: Pair) -> None:
    pair.original.encode_special_tokens = True
    for text in hostile(500):
        assert pair.ours.encode(text) == pair.original.encode(text, add_special_tokens=False).ids


def test_500_hostile_conversations_give_the_same_ids_in_transformers(pair: Pair) -> None:
    texts = hostile(500, seed=1)
    for first, second in zip(texts[::2], texts[1::2], strict=True):
        turns = (Turn("system", second), Turn("user", first), Turn("assistant", second))
        rendered = pair.template.render(turns)
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        theirs = pair.theirs.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        assert theirs["input_ids"] == rendered.ids.tolist()
        assert theirs["assistant_masks"] == (rendered.weights > 0).astype(int).tolist()


def test_decoding_is_that_of_transformers(pair: Pair) -> None:
    for text in hostile(200, seed=2):
        ids = pair.ours.encode(text)
        assert pair.ours.decode(ids) == pair.theirs.decode(ids, skip_special_tokens=True)


def test_text_comes_out_token_by_token_without_half_a_character(pair: Pair) -> None:
    ids = pair.ours.encode("Humpty 矮胖子 👩‍👩‍👧‍👦")
    decoder = Decoder(pair.ours)
    assert "".join(map(decoder.feed, ids)) + decoder.flush() == "Humpty 矮胖子 👩‍👩‍👧‍👦"


def test_control_tokens_have_ids_and_no_text(pair: Pair) -> None:
    controls = pair.ours.controls
    assert controls.keys() >= {*TURNS, "<|bos|>", "<|eos|>", "<|pad|>"}
    assert all(pair.ours.piece_bytes(id) == b"" for id in controls.values())
    assert not set(pair.ours.encode("".join(TURNS))) & set(controls.values())
    assert pair.ours.vocab_size == pair.original.get_vocab_size() + len(TURNS)


def test_it_ships_as_its_path(pair: Pair) -> None:
    again = pickle.loads(pickle.dumps(pair.ours))
    assert again.encode("Humpty <think>") == pair.ours.encode("Humpty <think>")


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    write_foreign(tmp_path, "gpt2")
    file, config = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    config.write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer_config\.json: eos_token is missing"):
        take_over(file, tmp_path)
    config.write_text('{"eos_token": "<end>"}')
    with pytest.raises(ArtifactError, match=r"'<end>' is no token of tokenizer\.json"):
        take_over(file, tmp_path)
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({**whole, "model": {"type": "WordPiece"}}))
    with pytest.raises(ArtifactError, match=r"model\.type 'WordPiece' is not supported; BPE"):
        take_over(file, tmp_path)
    file.write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        take_over(file, tmp_path)


def test_a_sentencepiece_model_gets_turns_behind_its_own(tmp_path: Path) -> None:
    source = tmp_path / "spm.model"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SAMPLE),
        model_prefix=str(tmp_path / "spm"),
        vocab_size=320,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    (tmp_path / "ours").mkdir()
    ours = read_tokenizer(take_over(source, tmp_path / "ours"))
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(source))
    controls = ours.controls
    assert [controls[turn] for turn in TURNS] == [320, 321, 322, 323]
    assert (controls["<|bos|>"], controls["<|eos|>"], controls["<|pad|>"]) == (1, 2, 2)
    for text in hostile(500, seed=5):
        assert ours.encode(text) == theirs.encode(text)
    turns = (Turn("user", "Humpty"), Turn("assistant", "<|end|>"))
    rendered = Template(ours).render(turns).ids.tolist()
    assert rendered.count(323) == 2, "what is written ends no turn"


def test_gpt_2_itself_is_read_exactly(shared_data: Path, tmp_path: Path) -> None:
    files = [shared_data / "f_models" / f"gpt2_{name}" for name in ("vocab.json", "merges.txt")]
    original = tokenizers.ByteLevelBPETokenizer.from_file(*map(str, files))
    original.add_special_tokens(["<|endoftext|>"])
    original.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    (tmp_path / "ours").mkdir()
    ours = read_tokenizer(take_over(tmp_path / "tokenizer.json", tmp_path / "ours"))
    assert ours.vocab_size == 50257 + len(TURNS)
    texts = json.loads((shared_data / "g_hostile" / "blns.json").read_text()) + hostile(500, seed=6)
    for text in texts:
        ids = ours.encode(text)
        if "<|endoftext|>" not in text:
            assert ids == original.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == text
