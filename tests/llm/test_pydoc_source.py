"""The documentation inside this very Python as a corpus."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from llm import pydoc_source
from llm.config import DataConfig
from llm.documents import read_unit
from llm.errors import DataError
from llm.pydoc_source import pydoc_digest, pydoc_documents, write_pydoc
from llm.shards import list_shards, list_units


@pytest.fixture(scope="module")
def documents() -> list[tuple[str, str]]:
    return list(pydoc_documents())


def test_it_is_about_two_megabytes_in_thousands_of_documents(
    documents: list[tuple[str, str]],
) -> None:
    assert 5_000 < len(documents) < 12_000
    assert 1_500_000 < sum(len(text.encode()) for _, text in documents) < 5_000_000


def test_document_is_a_heading_and_a_docstring(documents: list[tuple[str, str]]) -> None:
    text = dict(documents)["textwrap.indent"]
    assert text.startswith("textwrap.indent(text, prefix, predicate=None)\n\nAdds 'prefix' to the ")
    assert dict(documents)["help.assert"].startswith('help("assert")\n\n')
    assert dict(documents)["json"].startswith("module json\n\n")
    text = dict(documents)["json.decoder.JSONDecodeError"]
    assert text.startswith("class json.decoder.JSONDecodeError(ValueError)\n\n")


def test_no_text_comes_twice_and_no_test_or_foreign_package_at_all(
    documents: list[tuple[str, str]],
) -> None:
    ids = [name for name, _ in documents]
    bodies = [text.partition("\n\n")[2] for _, text in documents]
    assert len(set(ids)) == len(ids)
    assert len(set(bodies)) == len(bodies)
    assert not [name for name in ids if name.startswith(("test.", "idlelib", "site-packages"))]


def test_shards_hold_each_document_once_and_are_the_same_each_time(
    documents: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pydoc_source, "pydoc_documents", lambda: iter(documents))
    paths = write_pydoc(tmp_path / "a", shards=3)
    again = write_pydoc(tmp_path / "b", shards=3)
    assert [path.name for path in paths] == [f"part-0000{i}.parquet" for i in range(3)]
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
    assert pq.read_schema(paths[0]).names == ["id", "text", "source"]
    units = list_units(list_shards((str(tmp_path / "a"),), "auto"))
    data = DataConfig(shards=("pydoc://",))
    read = [text for unit in units for text in read_unit(unit, data)]
    assert sorted(read) == sorted(text for _, text in documents)


def test_python_without_sources_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pydoc_source, "pydoc_documents", lambda: iter(()))
    with pytest.raises(DataError, match="without the sources of its standard library"):
        write_pydoc(tmp_path)


def test_digest_names_python_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pydoc_digest()
    assert pydoc_digest() == before
    monkeypatch.setattr(pydoc_source, "REVISION", 2)
    assert pydoc_digest() != before
