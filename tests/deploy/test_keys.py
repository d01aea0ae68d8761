"""Who is let in: files of hashed keys, the environment, and keys that are revoked."""

import hmac
import os
import pickle
from pathlib import Path

import pytest

from deploy import keys
from deploy.keys import KeyRing, new_key
from llm.errors import SpecError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_new_key_is_let_in_by_its_line(tmp_path: Path) -> None:
    plain, line = new_key("ops")
    other, _ = new_key("ops")
    assert plain.startswith("hk-") and len(plain) >= 46 and plain != other
    assert plain not in line and line.startswith("ops sha256:")
    ring = KeyRing.of_file(written(tmp_path, "# keys", "", line + "  # Ada's"))
    assert ring.name_of(f"Bearer {plain}") == "ops"
    assert ring.name_of(f"bearer  {plain} ") == "ops"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "{key}",
        "Basic {key}",
        "Bearer {key}x",
        "Bearer {key} {key}",
        "Bearer {hash}",
        "Bearer é",
        "Bearer " + "x" * 10_000,
        "Bearer \x00",
    ],
)
def test_anything_else_is_nobody(tmp_path: Path, header: str | None) -> None:
    plain, line = new_key("ops")
    ring = KeyRing.of_file(written(tmp_path, line))
    if header is not None:
        header = header.replace("{key}", plain).replace("{hash}", line.split()[1])
    assert ring.name_of(header) is None


def test_no_key_is_no_key_even_if_its_hash_is_in_the_file() -> None:
    nothing = KeyRing({keys.hash_of(""): "nobody"})
    for header in (None, "", "Bearer", "Bearer "):
        assert nothing.name_of(header) is None


def test_every_key_is_compared_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [f"a-key-of-somebody-{i}" for i in range(20)]
    ring = KeyRing.of_environment(",".join(made))
    calls = []
    compare = hmac.compare_digest

    def counted(left: str, right: str) -> bool:
        calls.append(left)
        return compare(left, right)

    monkeypatch.setattr(keys.hmac, "compare_digest", counted)
    for header in (f"Bearer {made[0]}", f"Bearer {made[19]}", "Bearer wrong", None):
        calls.clear()
        ring.name_of(header)
        assert len(calls) == 20


def test_the_environment_holds_keys_or_hashes() -> None:
    plain, line = new_key("x")
    ring = KeyRing.of_environment(f"{line.split()[1]}, a-key-of-my-own-1 ,")
    assert ring.name_of(f"Bearer {plain}") == "environment-1"
    assert ring.name_of("Bearer a-key-of-my-own-1") == "environment-2"


@pytest.mark.parametrize(
    ("value", "words"),
    [("", "no key"), (" , ", "no key"), ("short", "can be guessed"), ("sha256:abc", "hash 1")],
)
def test_a_useless_environment_is_an_error_that_shows_no_key(value: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as error:
        KeyRing.of_environment(value)
    assert "short" not in str(error.value)


def test_a_ring_travels_without_any_key() -> None:
    plain, _ = new_key("x")
    sent = pickle.dumps(KeyRing.of_plain(plain))
    assert plain.encode() not in sent
    assert pickle.loads(sent).name_of(f"Bearer {plain}") == "first"


def test_lines_that_are_wrong_are_named_and_not_shown(tmp_path: Path) -> None:
    plain, line = new_key("ops")
    path = written(tmp_path, line, f"eve {plain}", "ops", "ops sha256:12", "a/b " + line.split()[1])
    with pytest.raises(SpecError) as error:
        KeyRing.of_file(path)
    message = str(error.value)
    assert plain not in message
    assert [f"line {n} " in message for n in range(1, 6)] == [False, True, True, True, True]


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "#", "x" * 65, "ключ"])
def test_names_that_would_break_a_line_are_refused(name: str) -> None:
    with pytest.raises(SpecError, match="no name for a key"):
        new_key(name)


def test_a_missing_or_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        KeyRing.of_file(tmp_path / "keys")
    with pytest.raises(SpecError, match="no key in it"):
        KeyRing.of_file(written(tmp_path, "# nothing"))
    (tmp_path / "keys").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="cannot be read"):
        KeyRing.of_file(tmp_path / "keys")


def test_a_revoked_key_stops_working_and_a_new_one_starts(tmp_path: Path) -> None:
    clock = Clock()
    (old, old_line), (new, new_line) = new_key("old"), new_key("new")
    ring = KeyRing.of_file(written(tmp_path, old_line), clock=clock)
    assert ring.name_of(f"Bearer {old}") == "old"
    written(tmp_path, new_line)
    clock.now = keys.LOOK_AGAIN
    assert ring.name_of(f"Bearer {old}") is None
    assert ring.name_of(f"Bearer {new}") == "new"


def test_a_file_that_breaks_lets_in_only_what_it_still_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    (ada, ada_line), (eve, eve_line) = new_key("ada"), new_key("eve")
    ring = KeyRing.of_file(written(tmp_path, ada_line, eve_line), clock=clock)
    written(tmp_path, ada_line, eve_line[:-60])
    clock.now += keys.LOOK_AGAIN
    assert ring.name_of(f"Bearer {eve}") is None
    assert ring.name_of(f"Bearer {ada}") == "ada"
    assert "line 2" in caplog.text
    os.unlink(tmp_path / "keys")
    clock.now += keys.LOOK_AGAIN
    assert ring.name_of(f"Bearer {ada}") is None
    written(tmp_path, ada_line)
    clock.now += keys.LOOK_AGAIN
    assert ring.name_of(f"Bearer {ada}") == "ada"
    assert ada not in caplog.text and eve not in caplog.text


def test_the_file_is_looked_at_once_a_second_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    plain, line = new_key("ops")
    ring = KeyRing.of_file(written(tmp_path, line), clock=clock)
    looks = []
    monkeypatch.setattr(keys, "version_of", lambda path: looks.append(path) or ring.seen)
    for tenth in range(31):
        clock.now = tenth / 10
        assert ring.name_of(f"Bearer {plain}") == "ops"
    assert len(looks) == 3


def written(folder: Path, *lines: str) -> Path:
    path = folder / "keys"
    fresh = folder / "keys.new"
    fresh.write_text("\n".join(lines) + "\n")
    return fresh.replace(path)
