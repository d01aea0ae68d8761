"""Files are replaced whole or not at all."""

from pathlib import Path

import pytest

from llm.files import Appender, replacing, write_atomic


def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.txt"
    write_atomic(path, "old")
    with pytest.raises(KeyError), replacing(path) as file:
        file.write(b"half of the ne")
        raise KeyError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_what_is_added_to_a_file_that_was_replaced_is_not_in_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    before = Appender(path)
    before.add("one\n")
    write_atomic(path, "another\n")
    now = Appender(path)
    before.add("two\n")
    now.add("three\n")
    now.sync()
    assert path.read_text() == "another\nthree\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_an_error_and_no_half_line_that_nobody_notices() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        Appender(Path("/dev/full")).add("a line\n")
