"""Listed words in whole texts and in streams, and hooks that judge sentences."""

import asyncio
import random
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.config import TextFilterConfig
from deploy.filters import LONGEST_SENTENCE, Filters, OutputFilter
from deploy.phrases import Finder, Phrases, spaced
from llm.errors import SpecError
from llm.word_list import WordList

ENTRIES = [
    "big deal",
    "crap",
    "Straße",
    "坏词",
    "café",
    "a b a c",
    "x2",
    "deal now is",
    "now",
    "ก็",
    "ﬁne print",
]

PHRASES = Phrases(ENTRIES)

WORDS = WordList(ENTRIES)

MARKS = "\u0301\u0338\u3099\u200d"

TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            [*ENTRIES, *"abcx2 .-\n…坏词好ßéﬁ½≠=かが각ᄀ", *MARKS, "CRAP", "ﬁNE", "Big", " deals"]
        ),
        st.characters(),
    ),
    max_size=30,
).map("".join)


def pieces(text: str, seed: int) -> list[str]:
    """A text in pieces of 0 to 4 characters."""
    draw, parts, start = random.Random(seed), [], 0
    while start < len(text):
        end = start + draw.randint(0, 4)
        parts.append(text[start:end])
        start = end
    return parts


def streamed(parts: list[str], phrases: Phrases = PHRASES) -> tuple[list[str], int | None]:
    """What is given back after each piece and at the end, and where an entry was found."""
    finder = Finder(phrases)
    shown = [finder.feed(part) for part in parts]
    return [*shown, finder.finish()], finder.found


def filters(tmp_path: Path, words: str | None = None, hook: str | None = None, **more: object):  # type: ignore[no-untyped-def]
    config = TextFilterConfig(
        words=str(written(tmp_path / "words.txt", words)) if words is not None else None,
        hook=f"{written(tmp_path / 'judge.py', hook)}:judge" if hook is not None else None,
        **more,  # type: ignore[arg-type]
    )
    found = Filters.load(config)
    assert found is not None
    return found


def written(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It is no BIG-Deal!", "It is no "),
        ("scrap, crappy: Crap", "scrap, crappy: "),
        ("一个坏词。", "一个"),
        ("in der STRASSE", "in der "),
        ("un cafe\u0301 noir", "un "),
        ("un cafe noir", None),
        ("ideal deals, x22", None),
        ("the ﬁne\nPRINT", "the "),
        ("fine prints", None),
        ("a b a b a c", "a b "),
        ("", None),
        ("crap", ""),
    ],
)
def test_listed_words_are_found_as_words(text: str, shown: str | None) -> None:
    for parts in ([text], list(text)):
        given_back, found = streamed(parts)
        assert (found is not None) == (shown is not None)
        assert "".join(given_back) == (text if shown is None else shown)


def test_an_entry_is_found_inside_the_beginning_of_a_longer_one() -> None:
    nested = Phrases(["deal", "a big deal now", "big deal maker"])
    for parts in (["it is a big deal."], list("it is a big deal.")):
        given_back, found = streamed(parts, nested)
        assert found == 12 and "".join(given_back) == "it is a big "


@settings(max_examples=600, deadline=None)
@given(TEXTS, st.integers())
def test_a_stream_finds_what_the_whole_text_has(text: str, seed: int) -> None:
    given_back, found = streamed(pieces(text, seed))
    assert (found is not None) == (WORDS.count(text) > 0)
    shown = "".join(given_back)
    assert text.startswith(shown)
    assert found is not None or shown == text
    assert streamed([text])[1] == found


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers())
def test_nothing_is_shown_that_becomes_a_part_of_an_entry(text: str, seed: int) -> None:
    finder = Finder(PHRASES)
    shown = ""
    for part in pieces(text, seed):
        shown += finder.feed(part)
        for entry in ENTRIES:
            for rest in (entry, entry[1:], entry[2:]):
                later = Finder(PHRASES)
                later.feed(shown + finder.held + rest)
                later.finish()
                assert later.found is None or later.found >= len(shown)


@settings(max_examples=500, deadline=None)
@given(st.text("abcdl xeig坏词好.", max_size=40))
def test_only_what_could_become_an_entry_is_held_back(text: str) -> None:
    finder = Finder(PHRASES)
    finder.feed(text)
    if finder.found is None and finder.held:
        begun = finder.held[:-1]  # an accent may follow the last character
        assert not begun or any(could_become(begun, entry) for entry in ENTRIES)


def could_become(held: str, entry: str) -> bool:
    """Whether an entry begins so."""
    words = spaced(held)
    return spaced(entry).startswith(words if held[-1] in " .坏词好" else words.rstrip())


def test_ordinary_words_are_not_held_back_for_long() -> None:
    parts = ["The ", "quick ", "brown ", "fox, ", "brown ", "as ", "bread, ", "jumps. "]
    assert streamed(parts)[0] == [*parts, ""]
    assert streamed(["hel", "lo ", "wo", "rld"])[0] == ["hel", "lo ", "wo", "rld", ""]


def test_a_long_list_and_a_long_text_take_time_in_proportion() -> None:
    draw = random.Random(0)
    entries = [
        " ".join("".join(draw.choices("abcd", k=draw.randint(2, 6))) for _ in range(3))
        for _ in range(5000)
    ]
    phrases = Phrases(entries)
    steps = 0
    step = phrases.step

    def counted(node: int, letter: str) -> int:
        nonlocal steps
        steps += 1
        return step(node, letter)

    phrases.step = counted  # type: ignore[method-assign]
    text = " ".join("".join(draw.choices("abcd", k=7)) for _ in range(2000))
    assert streamed([text], phrases)[1] is None
    assert steps <= len(text) + 2


def test_a_file_has_comments_and_is_read_as_utf8(tmp_path: Path) -> None:
    kept = filters(tmp_path, "\ufeff# a comment\n\n  Bad word \n坏词\n")
    assert kept.refuses("a BAD, WORD") and kept.refuses("这个坏词")
    assert not kept.refuses("a comment: bad words")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "has no word"), (b"# x\n", "has no word"), (b"a\n!!\n", "line 2"), (b"\xff", "UTF-8")],
)
def test_a_useless_list_is_an_error(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "words.txt").write_bytes(content)
    with pytest.raises(SpecError, match=words):
        Filters.load(TextFilterConfig(words=str(tmp_path / "words.txt")))


def test_a_missing_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        Filters.load(TextFilterConfig(words=str(tmp_path / "words.txt")))


def test_without_list_and_hook_there_is_no_filter() -> None:
    assert Filters.load(TextFilterConfig()) is None


def test_only_what_the_config_names_is_looked_at(tmp_path: Path) -> None:
    questions = filters(tmp_path, "bad", apply=("input",))
    assert questions.refuses("bad")
    assert shown(questions.stream(), "so ", "bad") == (["so ", "bad", ""], False)
    answers = filters(tmp_path, "bad", apply=("output",))
    assert not answers.refuses("bad")
    assert shown(answers.stream(), "so ", "bad") == (["so ", "", ""], True)


def test_a_blocked_answer_ends_before_the_word(tmp_path: Path) -> None:
    watched = filters(tmp_path, "bad word").stream()
    assert watched.feed("a bad") == "a "
    assert watched.feed(" ") == ""
    assert not watched.blocked
    assert watched.feed("word! and more") == ""
    assert watched.blocked
    assert watched.feed("more") == "" and watched.finish() == ""


HOOK = """
seen = []
def judge(text):
    seen.append(text)
    if "boom" in text:
        raise RuntimeError("cannot judge: " + text)
    return "evil" in text
"""


def test_a_hook_judges_sentences_before_they_are_shown(tmp_path: Path) -> None:
    watched = filters(tmp_path, hook=HOOK).stream()
    given_back, blocked = shown(watched, "One. Tw", "o is 3.5", "! An ev", "il one. ", "More.")
    assert given_back == ["One.", "", "", "", "", ""] or given_back == [
        "One.",
        "",
        " Two is 3.5!",
        "",
        "",
        "",
    ]
    assert blocked


def test_a_hook_sees_what_was_said_before(tmp_path: Path) -> None:
    heard: list[str] = []
    kept = Filters(TextFilterConfig(hook="x.py:x"), [], lambda text: bool(heard.append(text)))
    assert "".join(shown(kept.stream(), "One. Two", "。三\nfour")[0]) == "One. Two。三\nfour"
    assert heard == ["One.", "One. Two。三\n", "One. Two。三\nfour"]


def test_a_text_without_sentences_is_judged_in_parts() -> None:
    heard: list[str] = []
    kept = Filters(TextFilterConfig(hook="x.py:x"), [], lambda text: bool(heard.append(text)))
    watched = kept.stream()
    assert watched.feed("x" * (LONGEST_SENTENCE - 1)) == ""
    assert len(watched.feed("x")) == LONGEST_SENTENCE


def test_a_hook_that_fails_refuses_and_its_text_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = filters(tmp_path, hook=HOOK)
    assert kept.refuses("a secret boom")
    assert shown(kept.stream(), "a secret boom. ") == (["", ""], True)
    assert "RuntimeError" in caplog.text and "secret" not in caplog.text


def test_words_and_hook_work_together(tmp_path: Path) -> None:
    kept = filters(tmp_path, "bad", HOOK)
    assert kept.refuses("bad") and kept.refuses("evil") and not kept.refuses("good")
    assert shown(kept.stream(), "Fine. ", "Still bad") == (["Fine.", "", " Still "], True)
    found = shown(kept.stream(), "Fine. ", "Still bad, ", "and more. ")
    assert found == (["Fine.", " Still ", "", ""], True)
    assert shown(kept.stream(), "Fine. ", "evil and bad") == (["Fine.", "", ""], True)


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        ("def judge(text): return False", "other", "no function other"),
        ("judge = 3", "judge", "no function judge"),
        ("def judge(a, b): return False", "judge", "called with one text"),
        ("import nothing_like_this", "judge", "cannot be loaded"),
    ],
)
def test_a_hook_that_cannot_be_called_is_an_error(
    tmp_path: Path, source: str, name: str, words: str
) -> None:
    path = written(tmp_path / "judge.py", source)
    with pytest.raises(SpecError, match=words):
        Filters.load(TextFilterConfig(hook=f"{path}:{name}"))


@pytest.mark.parametrize("name", ["judge", "judge.py", "judge.py:", ":judge", "os:system"])
def test_a_hook_is_a_file_and_a_name(name: str) -> None:
    with pytest.raises(SpecError, match=r"FILE\.py:NAME"):
        Filters.load(TextFilterConfig(hook=name))


def shown(watched: OutputFilter, *parts: str) -> tuple[list[str], bool]:
    given_back = [watched.feed(part) for part in parts]
    return [*given_back, watched.finish()], watched.blocked


def test_a_slow_hook_holds_up_nobody_else() -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow(text: str) -> bool:
        asked.set()
        return not answer.wait(10)

    async def meanwhile() -> bool:
        kept = Filters(TextFilterConfig(hook="x.py:x"), [], slow)
        judging = asyncio.create_task(kept.aside(lambda filters: filters.refuses("Well?")))
        while not asked.is_set():
            await asyncio.sleep(0)
        answer.set()  # only a loop that goes on gets here
        return await judging

    assert not asyncio.run(meanwhile())
