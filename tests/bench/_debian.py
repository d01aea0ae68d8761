"""More than 100 MB of English from Debian packages, for benchmarks; nothing of it is kept.

A dictionary (gcide), WordNet and the kernel's documentation, fetched by `apt-get download` and
unpacked into a folder, as documents of JSON lines.
"""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("dict-gcide", "wordnet-base", "linux-doc-6.1")


def write_english(folder: Path, shards: int = 8) -> Path:
    """Shards of JSON lines with text, about 110 MB; made once per folder."""
    text = folder / "english"
    if not text.exists():
        packages = unpack(folder / "packages")
        temporary = folder / "english.tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        texts = list(documents(packages))
        for shard in range(shards):
            lines = (
                json.dumps({"text": text}, ensure_ascii=False) for text in texts[shard::shards]
            )
            (temporary / f"{shard:02d}.jsonl").write_text("\n".join(lines) + "\n")
        temporary.rename(text)
    return text


def unpack(folder: Path) -> Path:
    """Download and unpack the packages."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        command = ["apt-get", "download", "-q", *PACKAGES]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"this benchmark reads Debian packages {PACKAGES}, which cannot be had: {error}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder], check=True)
    return folder


def documents(folder: Path) -> Iterator[str]:
    """Dictionary entries, glosses, and pages of documentation."""
    gcide = gzip.decompress((folder / "usr/share/dictd/gcide.dict.dz").read_bytes()).decode(
        errors="replace"
    )
    yield from pieces(gcide)
    for path in sorted((folder / "usr/share/wordnet").glob("data.*")):
        yield from pieces(path.read_text(errors="replace"))
    for path in sorted((folder / "usr/share/doc").rglob("*.gz")):
        yield gzip.decompress(path.read_bytes()).decode(errors="replace")
    for path in sorted((folder / "usr/share/doc").rglob("*.txt")):
        yield path.read_text(errors="replace")


def pieces(text: str, size: int = 4000) -> Iterator[str]:
    """A long text in documents of about so many characters, cut at line ends."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + size)
        end = len(text) if end < 0 else end + 1
        yield text[start:end]
        start = end
