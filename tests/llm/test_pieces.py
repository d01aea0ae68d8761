"""Tensors go into files and come back, in however many pieces."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from llm.errors import ArtifactError
from llm.files import sha256
from llm.pieces import Buffers, Piece, Tensors, piece_of, write_pieces


def share(tensor: torch.Tensor, rank: int, size: int) -> Piece:
    """What process `rank` of `size` has, as `fully_shard` deals rows."""
    each = -(-len(tensor) // size)
    first = min(len(tensor), rank * each)
    return Piece(tensor[first : first + each], first, tuple(tensor.shape))


def test_a_file_is_read_by_safetensors_and_its_digest_is_right(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 5).bfloat16(),
        "count": torch.tensor(7.0),
        "mask": torch.tensor([True, False, True]),
        "empty": torch.empty(0, 4),
        "turned": torch.randn(4, 6).t(),
        "large": torch.randn(3 << 20),
        "double": torch.randn(2, dtype=torch.float64),
    }
    path = tmp_path / "x.safetensors"
    digest = write_pieces(path, {name: piece_of(tensor) for name, tensor in tensors.items()})
    assert digest == sha256(path)
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 12),
    shape=st.sampled_from([(), (3,), (2, 2)]),
    before=st.integers(1, 6),
    after=st.integers(1, 6),
)
def test_any_number_of_processes_reads_what_any_other_wrote(
    rows: int, shape: tuple[int, ...], before: int, after: int
) -> None:
    whole = torch.randn(rows, *shape)
    with tempfile.TemporaryDirectory() as folder:
        for rank in range(before):
            piece = share(whole, rank, before)
            named = {"x": piece} if len(piece.rows) else {}
            write_pieces(Path(folder) / f"m-{rank:05d}-of-{before:05d}.safetensors", named)
        saved = Tensors(Path(folder) / "m.safetensors")
        assert saved.shapes == {"x": tuple(whole.shape)}
        for rank in range(after):
            own = share(torch.full_like(whole, torch.nan), rank, after)
            saved.fill("x", own)
            assert torch.equal(own.rows, share(whole, rank, after).rows)


def test_rows_that_no_file_has_are_named(tmp_path: Path) -> None:
    whole = torch.randn(4, 2)
    write_pieces(tmp_path / "m-00000-of-00002.safetensors", {"x": share(whole, 0, 2)})
    with pytest.raises(ArtifactError, match=r"m\.safetensors: rows of x are missing"):
        Tensors(tmp_path / "m.safetensors").fill("x", piece_of(whole))


@pytest.mark.parametrize("content", [b"", b"nothing", b"\xff" * 64])
def test_what_is_no_safetensors_file_is_said_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"m\.safetensors: cannot be read"):
        Tensors(tmp_path / "m.safetensors")


def test_a_copy_does_not_change_with_its_source_and_its_memory_is_used_again() -> None:
    source, buffers = torch.ones(3), Buffers()
    first = buffers.copied({"model": {"x": piece_of(source)}})["model"]["x"].rows
    source.zero_()
    assert torch.equal(first, torch.ones(3))
    second = buffers.copied({"model": {"x": piece_of(source)}})["model"]["x"].rows
    assert second.data_ptr() == first.data_ptr() and torch.equal(second, torch.zeros(3))
