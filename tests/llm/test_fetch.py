"""A model's folder at a URI is brought here once; what is no model is refused."""

from pathlib import Path

import fsspec
import pytest

from llm.errors import ArtifactError
from llm.fetch import NEEDED as ALWAYS
from llm.fetch import TOKENIZERS, fetch

NEEDED = (*ALWAYS, TOKENIZERS[0])
FILES = {name: name.encode() for name in (*NEEDED, "chat_template.jinja", "manifest.json")}
"""Of a model that a stage has made."""


@pytest.fixture
def remote() -> str:
    system = fsspec.filesystem("memory")
    for name, content in FILES.items():
        system.pipe(f"/models/one/{name}", content)
    system.pipe("/models/one/report.html", b"is not needed for writing")
    return "memory://models/one"


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    for name in NEEDED:
        (tmp_path / name).write_bytes(b"")
    assert fetch(str(tmp_path)) == tmp_path
    assert fetch(f"file://{tmp_path}") == tmp_path


def test_what_is_elsewhere_is_copied_once(remote: str, tmp_path: Path) -> None:
    folder = fetch(remote, tmp_path)
    copied = {one.name: one.read_bytes() for one in folder.iterdir()}
    assert copied == FILES
    (folder / "model.json").write_bytes(b"mark")
    assert fetch(remote, tmp_path) == folder
    assert (folder / "model.json").read_bytes() == b"mark", "it is not copied again"
    assert [one.name for one in tmp_path.iterdir()] == [folder.name], "nothing else stays behind"


def test_another_content_has_another_folder(remote: str, tmp_path: Path) -> None:
    first = fetch(remote, tmp_path)
    fsspec.filesystem("memory").pipe("/models/one/model.safetensors", b"something longer")
    assert fetch(remote, tmp_path) != first


@pytest.mark.parametrize("place", ["nowhere", "memory://nothing/here"])
def test_what_is_no_model_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere|nothing/here"):
        fetch(place, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"has no model\.safetensors, tokenizer\.model; give"):
        fetch(str(tmp_path))
