"""Files are replaced whole or not at all."""

from pathlib import Path

import pytest

from llm.files import replacing, write_atomic


def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.txt"
    write_atomic(path, "old")
    with pytest.raises(KeyError), replacing(path) as file:
        file.write(b"half of the ne")
        raise KeyError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
