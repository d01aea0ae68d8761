"""transformers reads the folder of a chat model and cuts conversations into the same tokens."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.chat import Conversation, Template, Turn
from llm.config import TokenizerConfig
from llm.hf_tokenizer import write_hf_tokenizer
from llm.model_file import rounded_scores
from llm.tokenizer import RESERVED, Tokenizer
from llm.tokenizer_trainer import train

transformers = pytest.importorskip("transformers")

HOSTILE = [
    *RESERVED,
    "<",
    "<<|",
    "|end|>",
    "<0x41><0x0A>",
    "a<\ufdd0|end|>",
    "\ufdd0\ufdd0<\ufdd0\ufdd0",
    "\u2581a \u2581\u2581 b\u2581",
    "\0x\0",
    "\uff1c|end|\uff1e",
    "  lead and trail  ",
    "\r\n\t\n",
    "a" * 40,
    "<" * 30,
    "",
    "\u2191\u2581\u2191<\u2191 \u2191\u2191",
]

SAMPLE = [
    "Humpty Dumpty sat on a wall, had a great fall.\n\tif x < 3: return '<|end|>'  # <unk>",
    "Four-score men and four-score more could not make Humpty where he was before.",
    "矮胖子坐墙头，国王所有的马。 one | two > three",
    "aa aaa abab <div class='a'> user assistant system end bos",
] * 20

PLAIN = [text.replace("<", "[") for text in SAMPLE]
"""A sample after which "<" is in no token."""


class Pair:
    """The template here and the same in transformers."""

    def __init__(self, folder: Path, texts: list[str], **options: Any) -> None:
        path = folder / "trained.model"
        train(texts, TokenizerConfig(**options), path, seed=0)
        self.ours = Template(Tokenizer(path))
        assert write_hf_tokenizer(path, folder, context=1 << 20)
        self.theirs = transformers.AutoTokenizer.from_pretrained(folder)

    def check(self, conversation: Conversation) -> None:
        """Equal ids, equal masks, with and without an answer; equal text where it is read."""
        rendered = self.ours.render(conversation)
        messages = [{"role": t.role, "content": t.text, "weight": t.weight} for t in conversation]
        theirs = self.theirs.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        assert theirs["input_ids"] == rendered.ids.tolist()
        assert theirs["assistant_masks"] == (rendered.weights > 0).astype(int).tolist()
        prompt = self.theirs.apply_chat_template(
            messages[:-1], tokenize=True, add_generation_prompt=True
        )
        assert prompt["input_ids"] == self.ours.prompt(conversation[:-1])
        answer = self.ours.tokenizer.encode(conversation[-1].text)
        assert self.theirs.decode(answer) == self.ours.tokenizer.decode(answer)


KINDS: dict[str, dict[str, Any]] = {
    "unigram": {"model": "unigram", "vocab_size": 345, "byte_fallback": True},
    "bpe": {"model": "bpe", "vocab_size": 400, "byte_fallback": True},
    "char": {"model": "char", "vocab_size": "auto", "byte_fallback": True},
    "unigram-unknown": {"model": "unigram", "vocab_size": 88, "byte_fallback": False},
    "bpe-unknown": {"model": "bpe", "vocab_size": 140, "byte_fallback": False},
    "char-unknown": {"model": "char", "vocab_size": "auto", "byte_fallback": False},
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=["<", "no <"])
def small(kind: str, request: pytest.FixtureRequest, tmp_path_factory: Any) -> Pair:
    """A small tokenizer of each kind, with and without a token for "<"."""
    texts = SAMPLE if request.param == "<" else PLAIN
    return Pair(tmp_path_factory.mktemp("hf"), texts, coverage=1.0, **KINDS[kind])


def test_hostile_texts_give_the_same_ids(small: Pair) -> None:
    for text in HOSTILE:
        small.check((Turn("user", text), Turn("assistant", text + "x"), Turn("assistant", text, 0)))


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.lists(st.sampled_from([*HOSTILE, "sat", "墙"])).map("".join), min_size=2))
def test_any_texts_give_the_same_ids(small: Pair, texts: list[str]) -> None:
    small.check(tuple(Turn("assistant", text) for text in texts))


@pytest.fixture(scope="module", params=["unigram", "bpe", "bpe nfkc"])
def large(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: Any) -> Pair:
    """A tokenizer of English and Chinese answers."""
    model, _, normalize = request.param.partition(" ")
    texts = [text for turns in real(shared_data)[::2] for text in turns]
    options = {"vocab_size": 6000, "byte_fallback": True, "normalize": normalize or "none"}
    return Pair(tmp_path_factory.mktemp("hf"), texts, model=model, **options)


def real(data: Path) -> list[tuple[str, str]]:
    """Questions and answers, English and Chinese."""
    names = ("alpaca_en_demo.json", "alpaca_zh_demo.json")
    rows = [row for name in names for row in json.loads((data / "c_sft" / name).read_text())]
    return [(f"{row['instruction']}\n{row['input']}", row["output"]) for row in rows]


def test_500_conversations_give_the_same_ids(large: Pair, shared_data: Path) -> None:
    draw = random.Random(4)
    naughty = json.loads((shared_data / "g_hostile" / "blns.json").read_text()) + HOSTILE
    calm = draw.sample(real(shared_data), 500 - len(naughty) // 2)
    for question, answer in calm:
        large.check((Turn("user", question), Turn("assistant", answer)))
    for first, second in zip(naughty[::2], naughty[1::2], strict=False):
        question, answer = draw.choice(calm)
        large.check(
            (
                Turn("system", first),
                Turn("user", question + second),
                Turn("assistant", second),
                Turn("user", first),
                Turn("assistant", first + answer),
            )
        )


def test_rounded_scores_are_multiples_of_a_64th_of_the_same_pieces(tmp_path: Path) -> None:
    train(SAMPLE, TokenizerConfig(**KINDS["unigram"]), tmp_path / "a.model", seed=0)
    proto = (tmp_path / "a.model").read_bytes()
    rounded = rounded_scores(proto)
    before, after = (sentencepiece.SentencePieceProcessor(model_proto=p) for p in (proto, rounded))
    ids = range(before.vocab_size())
    assert [after.id_to_piece(i) for i in ids] == [before.id_to_piece(i) for i in ids]
    assert all(abs(after.get_score(i) - before.get_score(i)) <= 1 / 128 for i in ids)
    assert all((64 * after.get_score(i)).is_integer() for i in ids)
    assert rounded_scores(rounded) == rounded


def test_a_word_model_gets_its_template_only(tmp_path: Path) -> None:
    path = tmp_path / "word.model"
    config = TokenizerConfig(model="word", vocab_size="auto", byte_fallback=True)
    train(SAMPLE, config, path, seed=0)
    folder = tmp_path / "hf"
    assert not write_hf_tokenizer(path, folder, context=64)
    assert {f.name for f in folder.iterdir()} == {"chat_template.jinja", "tokenizer.model"}


def test_transformers_learns_where_answers_end_and_how_long_the_context_is(tmp_path: Path) -> None:
    path = tmp_path / "bpe.model"
    train(SAMPLE, TokenizerConfig(**KINDS["bpe"]), path, seed=0)
    write_hf_tokenizer(path, tmp_path, context=64)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokens = (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id, theirs.unk_token_id)
    assert tokens == (1, 7, 3, 0)
    assert theirs.model_max_length == 64
    assert len(theirs) == Tokenizer(path).vocab_size


def test_an_unknown_role_is_refused_by_the_template(tmp_path: Path) -> None:
    path = tmp_path / "bpe.model"
    train(SAMPLE, TokenizerConfig(**KINDS["bpe"]), path, seed=0)
    write_hf_tokenizer(path, tmp_path, context=64)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(Exception, match="roles are system, user and assistant, not tool"):
        theirs.apply_chat_template([{"role": "tool", "content": "x"}])
