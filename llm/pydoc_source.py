"""`pydoc://`: the text that every machine has, the documentation inside its own Python.

The topics of `help()` and the docstrings of the standard library, read with `ast`, so that nothing
is imported and nothing is run: about 7,000 documents and 2.4 MB in 3 seconds. A document is a
heading (`textwrap.indent(text, prefix, predicate=None)`), a blank line and the docstring.
Same Python, same documents in the same order.
"""

import ast
import hashlib
import io
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from llm.errors import DataError
from llm.files import write_atomic

REVISION = 1
"""To be raised whenever the documents of an unchanged Python change."""

LEAST_CHARACTERS = 20

SKIPPED = {
    "__pycache__",
    "dist-packages",
    "encodings",
    "ensurepip",
    "idle_test",
    "idlelib",
    "lib-dynload",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "turtledemo",
}
"""Folders with tests, other people's packages, tables, or programs instead of a library."""

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def pydoc_digest() -> str:
    """Names the documents without reading them: which Python this is, and how they are made."""
    return hashlib.sha256(f"pydoc {REVISION} {sys.version}".encode()).hexdigest()


def write_pydoc(folder: Path, shards: int = 8) -> list[Path]:
    """Write the documents as parquet (columns id, text, source), dealt out to `shards` files."""
    documents = list(pydoc_documents())
    if not documents:
        raise DataError(
            f"data.shards: pydoc://: the Python at {sys.executable} comes without the sources of "
            "its standard library; use one that has them, or give shards of your own"
        )
    paths = [folder / f"part-{index:05d}.parquet" for index in range(shards)]
    for index, path in enumerate(paths):
        write_atomic(path, parquet(documents[index::shards]))
    return paths


def parquet(documents: list[tuple[str, str]]) -> bytes:
    """A parquet file of documents."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": [name for name, _ in documents],
        "text": [text for _, text in documents],
        "source": ["pydoc"] * len(documents),
    }
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content, compression="zstd")
    return content.getvalue()


def pydoc_documents() -> Iterator[tuple[str, str]]:
    """Pairs of id (`textwrap.indent`) and text; no text and no id twice."""
    ids: set[str] = set()
    texts: set[str] = set()
    for name, heading, text in all_texts():
        if len(text) >= LEAST_CHARACTERS and text not in texts and name not in ids:
            ids.add(name)
            texts.add(text)
            yield name, f"{heading}\n\n{text}\n"


def all_texts() -> Iterator[tuple[str, str, str]]:
    """Id, heading and text of every topic and docstring."""
    from pydoc_data.topics import topics

    for topic, text in sorted(topics.items()):
        yield f"help.{topic}", f'help("{topic}")', text.strip()
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(sources(root)):
        tree = parsed(path)
        if tree is not None:
            yield from docstrings(tree, module_name(path.relative_to(root)))


def sources(folder: Path) -> Iterator[Path]:
    """Python files of the library below a folder."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in SKIPPED:
            yield from sources(path)
        elif path.suffix == ".py" and path.is_file():
            yield path


def parsed(path: Path) -> ast.Module | None:
    """A file's syntax tree, or None for a file that is broken on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in docstrings are no concern of ours
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return None


def module_name(path: Path) -> str:
    """`json/decoder.py` is json.decoder, `json/__init__.py` is json."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def docstrings(node: Documented, name: str) -> Iterator[tuple[str, str, str]]:
    """Id, heading and docstring of a module, class or function, and of all within it."""
    text = ast.get_docstring(node)
    if text:
        yield name, heading(node, name), text.strip()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from docstrings(child, f"{name}.{child.name}")


def heading(node: Documented, name: str) -> str:
    """What the docstring is about: `module m`, `class m.C(Base)` or `m.f(a, b=0)`."""
    if isinstance(node, ast.Module):
        return f"module {name}"
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        return f"class {name}({bases})" if bases else f"class {name}"
    return f"{name}({ast.unparse(node.args)})"
