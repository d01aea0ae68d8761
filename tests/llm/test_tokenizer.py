"""Text to tokens and back without loss, for every kind, and models that others made."""

import json
import pickle
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.config import TokenizerConfig
from llm.errors import ArtifactError, DataError
from llm.tokenizer import RESERVED, Decoder, Tokenizer
from llm.tokenizer_trainer import TokenizerReport, train

DATA = Path(__file__).parents[2] / "../shared/data"
FOREIGN = DATA / "f_models/spm_unigram_en1000.model"

needs_data = pytest.mark.skipif(
    not FOREIGN.exists(), reason=f"{FOREIGN} is not there; it is no part of the repository"
)

KINDS = ("unigram", "bpe", "char", "word")

RHYME = "humpty dumpty sat on a wall had great fall all the king's horses and men 12 345"
WORDS = RHYME.split()


def sample_texts(count: int = 60) -> list[str]:
    """Indented lines of rhyme with tabs, runs of spaces, CRLF, Chinese and emoji."""
    draw = random.Random(0)
    texts = []
    for i in range(count):
        lines = [" ".join(draw.choices(WORDS, k=8)) for _ in range(6)]
        lines += [
            f"    if x{i}:\t{draw.choice(WORDS)}",
            "        return  y\r",
            "矮胖子坐墙头 🥚",
            "",
        ]
        texts.append("\n".join(lines))
    return texts


def config(model: str, byte_fallback: bool = True, **options: Any) -> TokenizerConfig:
    size: Any = "auto" if model in ("char", "word") else 80 + 256 * byte_fallback
    defaults = {"vocab_size": size, "coverage": 1.0}
    return TokenizerConfig(
        model=model,  # type: ignore[arg-type]
        byte_fallback=byte_fallback,
        **defaults | options,
    )


Trained = Callable[..., Tokenizer]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trains on `sample_texts`, each kind once."""
    made: dict[tuple[str, bool], Tokenizer] = {}

    def tokenizer(model: str, byte_fallback: bool = True) -> Tokenizer:
        key = (model, byte_fallback)
        if key not in made:
            path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
            train(sample_texts(), config(model, byte_fallback), path, seed=0)
            made[key] = Tokenizer(path)
        return made[key]

    return tokenizer


def spelled(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer._model.id_to_piece(i) for i in tokenizer.encode(text)]


# -- vocabulary ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_reserved_pieces_come_first(trained: Trained, kind: str) -> None:
    tokenizer = trained(kind)
    pieces = [tokenizer._model.id_to_piece(i) for i in range(8)]
    assert tuple(pieces) == RESERVED
    assert (tokenizer.unknown, tokenizer.bos, tokenizer.eos, tokenizer.pad) == (0, 1, 2, 3)
    assert [tokenizer.piece_bytes(i) for i in range(1, 8)] == [b""] * 7


def test_char_gives_each_character_of_the_sample_a_token(tmp_path: Path) -> None:
    text = "Humpty Dumpty sat on a wall,\n\tby \u2585 墙\r\n"
    report = train([text], config("char", False), tmp_path / "x.model", seed=0)
    tokenizer = Tokenizer(tmp_path / "x.model")
    assert report.vocab_size == tokenizer.vocab_size == len(RESERVED) + len(set(text))
    assert len(tokenizer.encode(text)) == len(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_auto_gives_rare_characters_a_token_whatever_the_coverage(tmp_path: Path) -> None:
    report = train(["a" * 98 + "bc"], config("char", False, coverage=0.5), tmp_path / "x", seed=0)
    assert (report.vocab_size, report.coverage) == (len(RESERVED) + 3, 1.0)


def test_word_gives_each_word_of_the_sample_a_token(tmp_path: Path) -> None:
    report = train(["a b c a\nb b"], config("word", False), tmp_path / "x.model", seed=0)
    tokenizer = Tokenizer(tmp_path / "x.model")
    assert spelled(tokenizer, "a b c\nb") == ["a", "▁b", "▁c", "\n", "b"]
    assert report.unknown_share == 0
    assert tokenizer.encode("zzz") == [0]
    assert tokenizer.decode(tokenizer.encode("a zzz b")) == "a\ufffd b"


def test_runs_of_spaces_and_line_ends_are_single_tokens(tmp_path: Path) -> None:
    train(sample_texts(), config("bpe", vocab_size=400), tmp_path / "x.model", seed=0)
    pieces = spelled(Tokenizer(tmp_path / "x.model"), "        return\n\t")
    assert pieces == ["▁" * 8, "return", "\n", "\t"]


def test_digits_are_tokens_of_their_own(trained: Trained) -> None:
    assert spelled(trained("unigram"), "345") == ["3", "4", "5"]


# -- round trips -----------------------------------------------------------------------------------

HARD = st.text(
    alphabet=st.sampled_from(list("ab \n\t\r\0\u2581\u2585\u2047\ufeff\u3000é矮🥚<|>/s"))
)
TEXTS = HARD | st.text() | st.lists(st.sampled_from([*WORDS, " ", "  ", "\n"])).map("".join)


@pytest.mark.parametrize("kind", KINDS)
def test_byte_fallback_makes_every_text_lossless(trained: Trained, kind: str) -> None:
    tokenizer = trained(kind)

    @given(TEXTS)
    @settings(max_examples=150, deadline=None)
    def holds(text: str) -> None:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert b"".join(map(tokenizer.piece_bytes, ids)) == text.encode()
        assert all(id >= len(RESERVED) for id in ids)

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_sample_is_lossless_without_byte_fallback(trained: Trained, kind: str) -> None:
    tokenizer = trained(kind, False)
    for text in sample_texts():
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_sample_without_a_space_still_spells_spaces(tmp_path: Path, kind: str) -> None:
    options = {} if kind in ("char", "word") else {"vocab_size": 271}
    train(["世界和平", "世界你好"] * 5, config(kind, **options), tmp_path / "x.model", seed=0)
    tokenizer = Tokenizer(tmp_path / "x.model")
    assert tokenizer.decode(tokenizer.encode("你 好 x")) == "你 好 x"


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_are_the_same_tokens_as_lists(trained: Trained, kind: str) -> None:
    tokenizer = trained(kind)
    texts = [*sample_texts(3), "", "a \u2581 b", "unseen 中文"]
    arrays = tokenizer.encode_arrays(texts)
    assert [array.tolist() for array in arrays] == tokenizer.encode_batch(texts)
    assert {array.dtype for array in arrays} == {np.dtype(np.int32)}
    assert [tokenizer.encode(text) for text in texts] == tokenizer.encode_batch(texts)


@pytest.mark.parametrize("kind", ("unigram", "bpe", "char"))
def test_bare_sentencepiece_gives_the_same_tokens(trained: Trained, kind: str) -> None:
    tokenizer = trained(kind)
    bare = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer.path))
    for text in sample_texts(5):
        assert tokenizer.encode(text) == bare.encode(text)


def test_nfkc_folds_compatible_characters_and_keeps_white_space(tmp_path: Path) -> None:
    train(sample_texts(), config("bpe", normalize="nfkc"), tmp_path / "x.model", seed=0)
    tokenizer = Tokenizer(tmp_path / "x.model")
    assert tokenizer.decode(tokenizer.encode("ﬁ①Ａ  \n\tx")) == "fi1A  \n\tx"


@pytest.mark.parametrize("kind", KINDS)
def test_text_never_becomes_a_control_symbol(trained: Trained, kind: str) -> None:
    tokenizer = trained(kind)
    for text in (*RESERVED, "<s></s>", "<0x41>", "a<|user|>b <|end|>\n<|eos|>"):
        assert min(tokenizer.encode(text)) >= len(RESERVED)
        assert tokenizer.decode(tokenizer.encode(text)) == text


@needs_data
@pytest.mark.parametrize("kind", KINDS)
def test_naughty_strings_survive(trained: Trained, kind: str) -> None:
    tokenizer = trained(kind)
    for text in json.loads((DATA / "g_hostile/blns.json").read_text()):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(id >= len(RESERVED) for id in ids)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_surrogate_pair_is_a_data_error(trained: Trained, kind: str) -> None:
    with pytest.raises(DataError, match="half a surrogate pair"):
        trained(kind).encode("a\ud800")


# -- decoding as tokens come -----------------------------------------------------------------------


def fed(decoder: Decoder, ids: Sequence[int]) -> list[str]:
    return [*map(decoder.feed, ids), decoder.flush()]


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_fed_join_to_the_decoded_text(trained: Trained, kind: str) -> None:
    tokenizer = trained(kind)

    @given(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    @settings(max_examples=150, deadline=None)
    def holds(ids: list[int]) -> None:
        assert "".join(fed(Decoder(tokenizer), ids)) == tokenizer.decode(ids)

    holds()


def test_character_comes_whole_with_its_last_byte(trained: Trained) -> None:
    tokenizer = trained("char")
    ids = tokenizer.encode("a😀")
    assert len(ids) == 5
    assert fed(Decoder(tokenizer), ids) == ["a", "", "", "", "😀", ""]
    assert fed(Decoder(tokenizer), ids[:4]) == ["a", "", "", "", "\ufffd"]


# -- the trainer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_same_sample_gives_the_same_file(tmp_path: Path, kind: str) -> None:
    files = [tmp_path / "a.model", tmp_path / "b.model"]
    reports = [train(iter(sample_texts()), config(kind), path, seed=1) for path in files]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert reports[0] == reports[1]


def test_report_measures_held_out_documents(tmp_path: Path) -> None:
    texts = ["abab"] * 19 + ["é" * 4]
    seed = next(s for s in range(100) if random.Random(s).randrange(20) == 19)
    report = train(texts, config("bpe", vocab_size=267), tmp_path / "x.model", seed=seed)
    assert report == TokenizerReport(
        model="bpe",
        vocab_size=267,  # 8 reserved, 256 bytes, a, b and the space
        sample_documents=20,
        sample_bytes=19 * 4 + 8,
        measured_on="held-out",
        measured_bytes=8,
        bytes_per_token=1.0,
        coverage=0.0,
        byte_share=1.0,
        unknown_share=0.0,
    )


def test_report_counts_what_coverage_leaves_out(tmp_path: Path) -> None:
    texts = ["a" * 98 + "bc"]
    options = {"coverage": 0.98, "vocab_size": 9}
    report = train(texts, config("char", False, **options), tmp_path / "x.model", seed=0)
    assert (report.measured_on, report.vocab_size) == ("training", 9)
    assert report.coverage == 0.98
    assert report.unknown_share == pytest.approx(1 / 99)  # "bc" is one unknown token


def test_trainer_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(["a b"], config("char"), tmp_path / "x.model", seed=0)
    assert capfd.readouterr() == ("", "")


def test_line_longer_than_the_trainer_takes_is_not_skipped(tmp_path: Path) -> None:
    texts = ["中" * 50_000 + "末", "word " * 10_000 + "end"]
    train(texts, config("char", False), tmp_path / "x.model", seed=0)
    assert 0 not in Tokenizer(tmp_path / "x.model").encode("中末 end")


@pytest.mark.parametrize("kind", KINDS)
def test_vocabulary_too_large_names_the_largest_that_works(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.model"
    with pytest.raises(DataError, match="vocab_size: 60000 is too large") as caught:
        train(sample_texts(), config(kind, vocab_size=60_000), path, seed=0)
    assert not path.exists()
    most = int(str(caught.value).split("set vocab_size to ")[1].split()[0])
    assert train(sample_texts(), config(kind, vocab_size=most), path, seed=0).vocab_size == most


@pytest.mark.parametrize("kind", KINDS)
def test_vocabulary_too_small_names_the_smallest_that_works(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.model"
    size = 5
    for _ in range(2):  # fixed tokens first, then the sample's characters
        with pytest.raises(DataError, match=f"vocab_size: {size} is too small") as caught:
            train(sample_texts(), config(kind, vocab_size=size), path, seed=0)
        size = int(str(caught.value).split("set vocab_size to ")[1].split()[0])
        if kind in ("char", "word"):
            break
    assert train(sample_texts(), config(kind, vocab_size=size), path, seed=0).vocab_size == size


@pytest.mark.parametrize("texts", [[], [""], ["\n\n", "\t"]])
def test_sample_without_text_is_an_error(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(DataError, match="the sample has no text"):
        train(texts, config("bpe"), tmp_path / "x.model", seed=0)


# -- files -----------------------------------------------------------------------------------------


def test_tokenizer_ships_as_its_path(trained: Trained) -> None:
    tokenizer = trained("bpe")
    data = pickle.dumps(tokenizer)
    assert len(data) < 500
    assert pickle.loads(data).encode("humpty") == tokenizer.encode("humpty")


def write_foreign(path: Path, **options: Any) -> None:
    """A model as others train them: a space put before each text, U+2047 for unknowns."""
    defaults = {"vocab_size": 60, "model_type": "unigram", "minloglevel": 2}
    prefix = str(path.with_suffix(""))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(" ".join(sample_texts()).split("\n")),
        model_prefix=prefix,
        **defaults | options,
    )


@pytest.mark.parametrize("keep_spaces", [True, False])
def test_foreign_model_decodes_as_sentencepiece_does(tmp_path: Path, keep_spaces: bool) -> None:
    path = tmp_path / "x.model"
    write_foreign(path, remove_extra_whitespaces=not keep_spaces)
    tokenizer = Tokenizer(path)
    bare = sentencepiece.SentencePieceProcessor(model_file=str(path))

    @given(st.lists(st.integers(0, 59)))
    @settings(max_examples=200, deadline=None)
    def holds(ids: list[int]) -> None:
        assert tokenizer.decode(ids) == bare.decode(ids)
        assert "".join(fed(Decoder(tokenizer), ids)) == bare.decode(ids)

    holds()
    for text in sample_texts(3):
        assert tokenizer.encode(text) == bare.encode(text)


def test_continued_text_keeps_its_first_space(tmp_path: Path) -> None:
    write_foreign(tmp_path / "x.model")
    tokenizer = Tokenizer(tmp_path / "x.model")
    ids = tokenizer.encode("sat")
    assert "".join(fed(Decoder(tokenizer), ids)) == "sat"
    assert "".join(fed(Decoder(tokenizer, continues=True), ids)) == " sat"


@needs_data
def test_foreign_model_gives_the_reference_encodings() -> None:
    tokenizer = Tokenizer(FOREIGN)
    rows = map(json.loads, (DATA / "f_models/reference_encodings.jsonl").open())
    rows = [row for row in rows if row["tokenizer"] == FOREIGN.name]
    assert len(rows) == 28
    for row in rows:
        assert tokenizer.encode(row["text"]) == row["ids"]
        assert tokenizer.decode(row["ids"]) == row["decoded"]


def test_model_without_an_end_of_text_says_so(tmp_path: Path) -> None:
    write_foreign(tmp_path / "x.model", eos_id=-1)
    with pytest.raises(ArtifactError, match=r"x\.model: the tokenizer has no end-of-text token"):
        Tokenizer(tmp_path / "x.model")


@pytest.mark.parametrize("content", [None, b"", b"no model", "half"])
def test_file_that_is_no_model_is_an_artifact_error(
    trained: Trained, tmp_path: Path, content: bytes | str | None
) -> None:
    path = tmp_path / "x.model"
    if content == "half":
        content = trained("bpe").path.read_bytes()[:3000]
    if isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"x\.model: .*give the path of a sentencepiece"):
        Tokenizer(path)
