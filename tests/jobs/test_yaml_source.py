"""Strict YAML: what scalars mean, which line is blamed, what is refused."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from jobs.overrides import override
from jobs.scalars import plain_scalar
from jobs.yaml_source import Source, read
from llm.errors import SpecError

ReadText = Callable[[str | bytes], Source]


@pytest.fixture
def source(tmp_path: Path) -> ReadText:
    def of(text: str | bytes) -> Source:
        file = tmp_path / "x.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(str(file))

    return of


def messages(source: Source) -> list[str]:
    """Without the folder of the file."""
    return [str(problem).rpartition("/")[2] for problem in source.problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-7", -7),
        ("1_000_000", 1_000_000),
        ("0x1F", 31),
        ("0o17", 15),
        ("007", 7),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("12:30:45", "12:30:45"),
        ("2026-11-22", "2026-11-22"),
        ("1__0", "1__0"),
        ("1_0.5", "1_0.5"),
        ("١٢", "١٢"),
        ("~", None),
        ("null", None),
        ("", None),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    made = plain_scalar(text)
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999", "9" * 30, "9" * 9000])
def test_numbers_that_are_not_finite_or_too_large_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"allowed|too large"):
        plain_scalar(text)


def test_quoted_scalars_are_text(source: ReadText) -> None:
    assert source("a: '1'\nb: \"true\"\nc: |\n  1\n").values == {"a": "1", "b": "true", "c": "1\n"}


def test_every_value_knows_its_line(source: ReadText) -> None:
    made = source("a:\n  b:\n    - x\n    - {c: 1,\n       d: 2}\n")
    lines = {keys: place.line for keys, place in made.places.items()}
    assert lines == {
        (): 1,
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "b", 0): 3,
        ("a", "b", 1): 4,
        ("a", "b", 1, "c"): 4,
        ("a", "b", 1, "d"): 5,
    }
    assert made.place(("a", "b", 1, "e")).line == 4


def test_a_repeated_key_names_both_lines_and_the_first_value_stays(source: ReadText) -> None:
    made = source("a: 1\nb: 2\na: 3\n")
    assert made.values == {"a": 1, "b": 2}
    assert messages(made) == ["x.yaml:3: a: the key stands here again; it is already on line 1"]


def test_mistakes_that_are_not_of_syntax_are_collected(source: ReadText) -> None:
    made = source("a: .inf\nb: !!set x\na: 1\n---\nc: 1\n")
    assert [message.split(": ")[0] for message in messages(made)] == [
        "x.yaml:1",
        "x.yaml:2",
        "x.yaml:3",
        "x.yaml:4",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.yaml:1: a spec is a mapping of keys such as `name:`; the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("- a\n", "found a list"),
        ("word", "found the value 'word'"),
        ("a:\n\tb: 1\n", "x.yaml:2: not valid YAML: a tab; YAML is indented by spaces"),
        ("a: 1\nb: c: d\n", "x.yaml:2: not valid YAML: a second `:`"),
        ("a: 1\nb: 'x\nc: 1\n", "x.yaml:2: not valid YAML: a quote that is never closed"),
        ("a: [1, 2\nb: 3\n", "not valid YAML: a list in brackets that lacks"),
        ("a: @b\n", "x.yaml:1: not valid YAML: text that starts with @ must stand in quotes"),
        ("a: 1\nfoo\nb: 2\n", "neither `key: value` nor"),
        ("? [a]\n: 1\n", "x.yaml:1: a key must be a single word"),
        ("a: *b\n", "x.yaml:1: a: the alias *b stands without an anchor"),
        ("a: &a [*a]\n", "x.yaml:1: a.0: the alias *a stands inside its own anchor"),
        (b"a: 1\nb: \xff\n", "x.yaml:2: is not UTF-8 text"),
        (b"a: 1\nb: \x00\n", "x.yaml:2: character U+0000 is not text"),
        ("[" * 100, "nested more than 50 deep"),
        (b"#" * (1 << 20) + b"\n", "is larger than 1 MiB"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(
    source: ReadText, text: str | bytes, message: str
) -> None:
    with pytest.raises(SpecError) as error:
        source(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_spec_errors(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        read(str(tmp_path / "none.yaml"))
    with pytest.raises(SpecError, match="is a folder"):
        read(str(tmp_path))


def test_aliases_work_but_do_not_explode(source: ReadText) -> None:
    assert source("a: &x {b: 1}\nc: *x\n").values == {"a": {"b": 1}, "c": {"b": 1}}
    ten = "[" + ", ".join(["*{0}"] * 10) + "]"
    grow = (f"{name}: &{name} {ten.format(last)}\n" for last, name in pairwise("abcde"))
    bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(grow)
    with pytest.raises(SpecError, match="more than 10000 values"):
        source(bomb)


def test_a_byte_order_mark_and_windows_line_ends_are_harmless(source: ReadText) -> None:
    made = source("\ufeffa: 1\r\nb: 2\r\n")
    assert made.values == {"a": 1, "b": 2}
    assert made.place(("b",)).line == 2


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("a.b=3e-4", {"a": {"b": 3e-4, "l": ["x", "y"]}}),
        ("a.l=[p, 'q']", {"a": {"b": 1, "l": ["p", "q"]}}),
        ("a.l.1=z", {"a": {"b": 1, "l": ["x", "z"]}}),
        ("a={c: no}", {"a": {"c": "no"}}),
        ("a.b=one: two # three", {"a": {"b": "one: two # three", "l": ["x", "y"]}}),
        ('a.b="7"', {"a": {"b": "7", "l": ["x", "y"]}}),
        ("n.m=x=y", {"a": {"b": 1, "l": ["x", "y"]}, "n": {"m": "x=y"}}),
        ("a.b=", {"a": {"b": None, "l": ["x", "y"]}}),
    ],
)
def test_an_override_is_read_like_a_value_of_the_file(
    source: ReadText, written: str, values: object
) -> None:
    assert override(source("a: {b: 1, l: [x, y]}\n"), written, 1).values == values


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("a", "command line: a: an override is written key.key=value"),
        ("=1", "command line: =1: an override is written key.key=value"),
        ("a..b=1", "command line: a..b=1: an override is written key.key=value"),
        ("a.l.2=z", "command line: a.l.2=z: a.l.2: a.l is a list of 2, numbered from 0"),
        ("a.b.c=1", "command line: a.b.c=1: a.b.c: a.b is the value 1; there are no keys in it"),
        ("a.b=.nan", "command line: a.b=.nan: a.b: .nan is not allowed; a number must be finite"),
        ("a.b=[1,", "command line: a.b=[1,: a.b: not valid YAML"),
        ("a.b={c: 1, c: 2}", "a.b.c: the key stands here again"),
    ],
)
def test_a_bad_override_is_reported_in_place_of_a_line(
    source: ReadText, written: str, message: str
) -> None:
    (problem,) = override(source("a: {b: 1, l: [x, y]}\n"), written, 1).problems
    assert message in str(problem)


def test_values_of_an_override_are_placed_on_the_command_line(source: ReadText) -> None:
    made = override(source("a: {b: {c: 1}}\n"), "a.b={d: 2}", 1)
    assert str(made.place(("a", "b", "d"))) == "command line: a.b={d: 2}"
    assert made.place(("a", "b", "d")).folder == Path.cwd()
    assert ("a", "b", "c") not in made.places
    assert made.place(("a",)).line == 1
