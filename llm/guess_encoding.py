"""Guessing the encoding of text from its first 64 KiB, rather not at all than wrongly.

In this order: a byte order mark; UTF-8 if it is that without a fault, unless a tenth is zero bytes;
UTF-16 if there are zero bytes, by which byte of each pair varies less; Chinese and Japanese in the
encoding that makes most of the hundred most frequent characters or kana (in running text a fifth to
a half, in wrongly decoded text next to none); else what resiliparse's detector says, if it is in
use for text and fits without a fault.
"""

import codecs
import unicodedata
from collections.abc import Iterator

HEAD_BYTES = 64 << 10

MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"\x84\x31\x95\x33": "gb18030",
}

FREQUENT = frozenset(
    "的一是不了在人有我他这這个個们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得"
    "于於着著下自之年过過发發后後作里裡用道行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動"
    "面起看定天分还還进進好小部其些主样樣理心她本前开開但因只从從想日山水花春風月無何雲"
)

KANA = frozenset(map(chr, range(0x3041, 0x3097)))

TELLING = {"gb18030": FREQUENT, "big5": FREQUENT, "euc_jp": KANA, "cp932": KANA}
"""Characters that running text has many of."""

LEAST_TELLING = 0.05
"""Share of them among all beyond ASCII from which on a text counts as being in an encoding."""

SUPERSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "ascii": "utf-8",
}
"""What is written by those who say otherwise."""

WINDOWS = {
    "iso8859-2": "cp1250",
    "iso8859-5": "cp1251",
    "iso8859-7": "cp1253",
    "iso8859-8": "cp1255",
}
"""What it is where the standard has control characters."""

IN_USE = {
    *("gb18030", "big5", "cp932", "euc_jp", "cp949", "koi8-r", "koi8-u", "cp874", "iso8859-2"),
    *("iso8859-5", "iso8859-7", "iso8859-8", "iso8859-15", *(f"cp{n}" for n in range(1250, 1259))),
}


def guessed(head: bytes, is_whole: bool) -> str | None:
    """Encoding of the text that begins with these bytes; None if it cannot be told."""
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    zeros = head.count(0)
    if zeros * 10 <= len(head) and fits(head, "utf-8", is_whole):
        return "utf-8"
    if zeros:
        return utf_16(head, is_whole)
    return east_asian(head, is_whole) or detected(head, is_whole)


def page_text(page: bytes, charset: str | None) -> str | None:
    """The text of a web page: as UTF-8 if it is that, else as its server, itself or its bytes say.

    A few faults are left in, as U+FFFD, which is what a browser shows.
    """
    for encoding in filter(None, page_encodings(page, charset)):
        text = decoded(page, encoding, is_whole=True)
        if text is not None:
            return text.removeprefix("\ufeff")
        if encoding == "utf-8" and (text := faulty_utf_8(page)):
            return text
    text = page.decode(known(charset or "") or "utf-8", "replace")
    return text if text.count("\ufffd") * 100 <= len(text) else None


def faulty_utf_8(page: bytes) -> str | None:
    """A text that is UTF-8 but for one in ten of its characters beyond ASCII, or less."""
    text = page.decode("utf-8", "replace")
    faults = text.count("\ufffd")
    return text if faults * 10 <= sum(not character.isascii() for character in text) else None


def page_encodings(page: bytes, charset: str | None) -> Iterator[str | None]:
    """What the encoding of a page may be, in order of trust."""
    from resiliparse.parse.encoding import detect_encoding

    yield next((encoding for mark, encoding in MARKS.items() if page.startswith(mark)), "utf-8")
    yield known(charset or "")
    yield known(detect_encoding(page, html5_compatible=False, from_html_meta=True) or "")
    yield guessed(page, True)


def decoded(head: bytes, encoding: str, is_whole: bool) -> str | None:
    """The text of these bytes, whose last character may be cut; None if they are no such text."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head, is_whole)
    except UnicodeDecodeError:
        return None


def fits(head: bytes, encoding: str, is_whole: bool) -> bool:
    """Whether bytes mean something in an encoding."""
    return decoded(head, encoding, is_whole) is not None


def utf_16(head: bytes, is_whole: bool) -> str | None:
    """UTF-16 without a mark: the byte with the page of a character varies less than the other."""
    little = len(set(head[1::2])) <= len(set(head[::2]))
    encoding = "utf-16-le" if little else "utf-16-be"
    text = decoded(head, encoding, is_whole)
    return encoding if text and is_readable(text) else None


def is_readable(text: str) -> bool:
    """Whether at most a hundredth of a text is control, private and unassigned characters."""
    odd = sum(c not in "\t\n\r" and unicodedata.category(c) in ("Cc", "Cn", "Co") for c in text)
    return odd * 100 <= len(text)


def east_asian(head: bytes, is_whole: bool) -> str | None:
    """An encoding in which bytes make Chinese or Japanese."""
    shares = {encoding: share(head, encoding, is_whole) for encoding in TELLING}
    best = max(shares, key=lambda encoding: shares[encoding])
    return best if shares[best] >= LEAST_TELLING else None


def share(head: bytes, encoding: str, is_whole: bool) -> float:
    """Share of the telling characters in those beyond ASCII."""
    text = decoded(head, encoding, is_whole) or ""
    wide = [character for character in text if not character.isascii()]
    return sum(character in TELLING[encoding] for character in wide) / max(1, len(wide))


def detected(head: bytes, is_whole: bool) -> str | None:
    """What resiliparse says, by a name that Python knows."""
    from resiliparse.parse.encoding import detect_encoding

    found = detect_encoding(head, html5_compatible=False)
    encoding = known(found or "") or ""
    if encoding not in IN_USE:
        encoding = "cp1252"  # of Western text it often says an encoding of DOS
    for name in (encoding, WINDOWS.get(encoding, encoding)):
        text = decoded(head, name, is_whole)
        if text and is_readable(text) and is_plausible(text):
            return name
    return None


def is_plausible(text: str) -> bool:
    """Whether nine in ten of a text's characters beyond ASCII are letters, marks or punctuation."""
    wide = [character for character in text if not character.isascii()]
    good = sum(unicodedata.category(character)[0] in "LMPZN" for character in wide)
    return good * 10 >= 9 * len(wide)


def known(name: str) -> str | None:
    """Python's name of an encoding, or of its superset that is in use."""
    try:
        name = codecs.lookup(name).name
    except LookupError:
        return None
    return SUPERSETS.get(name, name)
