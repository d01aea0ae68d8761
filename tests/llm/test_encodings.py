"""Encodings by name and guessed; files in them are cut only where lines can be found."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.config import TextConfig
from llm.damage import Damage
from llm.documents import read_documents, read_unit
from llm.encodings import check_encoding, codec_name, has_plain_lines
from llm.errors import DataError
from llm.guess_encoding import guessed
from llm.shards import list_shards, list_units

CHINESE = "床前明月光\r\n疑是地上霜\n\n舉頭望明月\n低頭思故鄉\n我在中國的大學裡學習\n"

SAMPLES = {
    "cp932": "漢字かな交じり文で書かれた日本語の文章です。吾輩は猫である。名前はまだ無い。\n",
    "euc_jp": "漢字かな交じり文で書かれた日本語の文章です。吾輩は猫である。名前はまだ無い。\n",
    "cp949": "안녕하세요. 한국어 문장을 인식해야 합니다. 모든 국민은 법 앞에 평등하다.\n",
    "cp1251": "Привет, как дела? Это русский текст, который нужно распознать.\n",
    "koi8-r": "Привет, как дела? Это русский текст, который нужно распознать.\n",
    "cp1252": "Les élèves français étudient à l’école, où ça va très bien. Größe und Maß.\n",
    "cp1250": "Příliš žluťoučký kůň úpěl ďábelské ódy, říká se v české větě.\n",
    "iso8859-7": "Καλημέρα κόσμε, αυτό είναι ένα ελληνικό κείμενο για δοκιμή.\n",
    "cp1256": "مرحبا بالعالم هذا نص عربي للاختبار والتجربة في هذا اليوم\n",
    "cp1255": "שלום עולם, זה טקסט בעברית לבדיקה של הקוד הזה\n",
}


def read(path: Path, unit_bytes: int = 1 << 18, **options: Any) -> tuple[list[str], list[Damage]]:
    config, damages = TextConfig(shards=(str(path),), **options), []
    units = list_units(list_shards(config.shards, "auto"), unit_bytes, config.encoding)
    texts = [d.text for unit in units for d in read_documents(unit, config, damages.append)]
    return texts, damages


@pytest.mark.parametrize("name", ["utf-8", "GB18030", "utf_8_sig", "windows-1252", "detect"])
def test_names_that_python_knows_are_accepted(name: str) -> None:
    check_encoding(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gb18300", "did you mean gb18030"),
        ("utf-9", "'utf-9' is no encoding of text"),
        ("base64", "'base64' is no encoding of text"),
        ("detekt", "did you mean detect"),
        ("", "'' is no encoding of text"),
        ("a\0b", "is no encoding of text"),
    ],
)
def test_other_names_are_refused_with_what_is_like_them(name: str, said: str) -> None:
    with pytest.raises(DataError, match=said.replace("\0", ".")):
        check_encoding(name)


def test_line_ends_are_plain_where_a_file_can_be_cut() -> None:
    plain = ["utf-8", "gb18030", "gbk", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252", "koi8-r"]
    others = ["utf-16", "utf-16-le", "utf-32-be", "cp037", "hz", "iso2022_jp", "utf-7"]
    assert all(has_plain_lines(codec_name(name)) for name in plain)
    assert not any(has_plain_lines(codec_name(name)) for name in others)


@pytest.mark.parametrize("name", ["gb18030", "big5", "shift_jis", "euc_kr", "gbk"])
def test_no_character_has_a_line_end_inside(name: str) -> None:
    for code in range(0x80, 0x10000):
        if not 0xD800 <= code < 0xE000:
            assert b"\n" not in chr(code).encode(name, "ignore"), hex(code)


encodings = st.sampled_from(["gb18030", "big5", "utf-16", "utf-16-be", "utf-32", "iso2022_jp_2"])


@given(encodings, st.integers(1, 60), st.sampled_from(["line", "paragraph", "file"]))
@settings(max_examples=60, deadline=None)
def test_text_is_the_same_in_every_encoding_however_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, encoding: str, unit_bytes: int, documents: str
) -> None:
    text = CHINESE if encoding != "iso2022_jp_2" else SAMPLES["cp932"] * 3
    folder = tmp_path_factory.mktemp("texts")
    (folder / "x.txt").write_bytes(text.encode(encoding))
    (folder / "y.txt").write_bytes(text.encode())
    found = read(folder / "x.txt", unit_bytes, encoding=encoding, documents=documents)
    expected = read(folder / "y.txt", unit_bytes, documents=documents)
    if documents == "file":  # whose pieces end with their units
        assert "".join("".join(found[0]).split()) == "".join(text.split())
    else:
        assert found == expected


def test_first_unit_reads_all_of_a_file_that_cannot_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(CHINESE.encode("utf-16"))
    config = TextConfig(shards=(str(path),), encoding="utf-16", documents="line")
    shards = list_shards(config.shards, "auto")
    units = list_units(shards, 10)  # by somebody who does not say the encoding
    assert len(units) > 5
    texts = [list(read_unit(unit, config)) for unit in units]
    assert texts == [CHINESE.split(), *[[] for _ in units[1:]]]
    assert len(list_units(shards, 10, "utf-16")) == 1


def test_line_that_is_wrong_in_its_encoding_costs_that_line(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("一\n".encode("gb18030") + b"\xff\n" + "二".encode("gb18030"))
    texts, [damage] = read(tmp_path / "x.txt", encoding="gb18030", documents="line")
    assert texts == ["一", "二"]
    assert (damage.reason, damage.place) == ("invalid encoding", "3")
    assert damage.detail.startswith("has bytes that are not GB18030")


def test_faulty_utf_16_gives_what_was_before(tmp_path: Path) -> None:
    content = ("first\n" * 100_000).encode("utf-16-le") + b"\x00\xdc" + b"a\0"
    (tmp_path / "x.txt").write_bytes(content)
    texts, [damage] = read(tmp_path / "x.txt", encoding="utf-16-le", documents="line")
    assert len(texts) > 99_000 - (64 << 10) // 12
    assert damage.reason == "invalid encoding"


def test_jsonl_and_gzip_in_other_encodings(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": line}, ensure_ascii=False) + "\n" for line in "天地玄黃")
    for encoding in ("gb18030", "big5", "utf-16", "utf-32"):
        path = tmp_path / f"{encoding}.jsonl.gz"
        path.write_bytes(gzip.compress(rows.encode(encoding)))
        assert read(path, encoding=encoding) == (list("天地玄黃"), [])


# -- detect ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "big5", "utf-16", "utf-32"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_chinese_is_recognised(tmp_path: Path, encoding: str, packed: str) -> None:
    path = tmp_path / f"x.txt{packed}"
    content = CHINESE.encode(encoding)
    path.write_bytes(gzip.compress(content) if packed else content)
    assert read(path, 20, encoding="detect", documents="line") == (CHINESE.split(), [])


@pytest.mark.parametrize("encoding", SAMPLES)
def test_other_languages_are_recognised(encoding: str) -> None:
    content = (SAMPLES[encoding] * 5).encode(encoding)
    found = guessed(content, is_whole=True)
    assert found is not None
    assert content.decode(found) == SAMPLES[encoding] * 5


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [CHINESE, "plain ASCII text\n" * 9, SAMPLES["koi8-r"]])
def test_utf_16_without_a_mark_is_recognised(encoding: str, text: str) -> None:
    assert guessed(text.encode(encoding), is_whole=True) == encoding


def test_head_may_end_inside_a_character() -> None:
    for encoding in ("utf-8", "gb18030", "big5", "utf-16-le"):
        content = (CHINESE * 4).encode(encoding)
        for cut in range(len(content) - 4, len(content)):
            assert guessed(content[:cut], is_whole=False) == encoding
        expected = None if encoding == "utf-8" else encoding
        assert encoding == "utf-8" or guessed(content, is_whole=True) == expected


def test_what_is_no_text_is_not_guessed_and_reported_once(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(bytes(range(256)) * 40)
    texts, [damage] = read(path, 100, encoding="detect")
    assert texts == []
    assert (damage.reason, damage.place) == ("invalid encoding", "")
    assert "say what it is with encoding:" in damage.detail


@pytest.mark.parametrize("name", ["poetry_tang", "poetry_songci", "tech_docs_zh"])
@pytest.mark.parametrize("encoding", ["gb18030", "big5"])
def test_real_chinese_is_recognised_in_portions_of_2000_characters(
    shared_data: Path, name: str, encoding: str
) -> None:
    with gzip.open(shared_data / f"a_pretrain/zh/{name}.jsonl.gz", "rt") as file:
        text = "\n".join(json.loads(line)["text"] for line in file)
    for start in range(0, 2_000_000, 100_000):
        content = text[start : start + 2000].encode(encoding, "ignore")
        assert guessed(content, is_whole=True) == encoding if content else True
