"""Rows of different lengths come back as they were written, whichever file they lie in."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.errors import ArtifactError
from llm.ragged import Ragged, write_rows

KINDS = {"ids": np.int32, "weights": np.float32}


def row(values: list[int]) -> dict[str, np.ndarray]:
    return {"ids": np.array(values, np.int32), "weights": np.array(values[:1], np.float32)}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=4), max_size=3))
def test_rows_come_back_in_order(files: list[list[list[int]]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.safetensors" for number in range(len(files))]
        for path, values in zip(paths, files, strict=True):
            write_rows(path, KINDS, map(row, values))
        rows = Ragged(paths)
        flat = [values for of_file in files for values in of_file]
        assert len(rows) == len(flat)
        assert [rows.get("ids", i).tolist() for i in range(len(rows))] == flat
        assert rows.lengths("ids").tolist() == list(map(len, flat))


def test_columns_keep_their_kinds(tmp_path: Path) -> None:
    write_rows(tmp_path / "a", KINDS, [row([3, 4])])
    rows = Ragged([tmp_path / "a"])
    assert rows.get("ids", 0).dtype == np.int32
    assert rows.get("weights", 0).tolist() == [3.0]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match=r"a: cannot be read .* remove its folder"):
        len(Ragged([tmp_path / "a"]))
