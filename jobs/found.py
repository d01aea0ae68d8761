"""What text there is at a place: formats, keys, encodings, sizes, a sample of its documents.

    place -> files -> heads (64 KiB each) -> groups that are read alike -> a sample of each

Names are believed first and contents decide: a file without text in it is left out and named. Only
heads and a sample are read, so a large folder takes seconds.
"""

import codecs
import glob
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from jobs.found_heads import Head, head_of, suffix_of
from jobs.found_rows import RowSet, rows_in
from jobs.stages import PYDOC
from llm.config import TextConfig
from llm.damage import NO_ERROR, Damage
from llm.documents import read_documents
from llm.errors import DataError
from llm.filesystem import Found, find
from llm.language import recognise
from llm.reading import Document
from llm.shards import Shard, Unit, format_of, in_parallel, list_units

MOST_HEADS = 300
"""Files of one suffix that are opened; of more, as many spread over all of them."""

UNITS, SAMPLE_BYTES = 16, 3 << 20
"""Portions that a sample is drawn from, and bytes of text in all of them."""

PYDOC_SOURCE_DOCUMENTS = 7_000


@dataclass(frozen=True)
class Source:
    """Files that are read in the same way, and what a sample of them is like."""

    shards: tuple[str, ...]
    format: str
    """As in the spec; auto where the names tell it."""
    kind: str
    """The format itself."""
    text: str
    documents: str
    encoding: str
    files: int
    bytes: int
    """Of text, about."""
    count: int
    """Documents, about."""
    sample: tuple[str, ...]
    damages: tuple[str, ...] = ()
    """Why records of the sample cannot be read."""


@dataclass(frozen=True)
class Text:
    """All that is to be read at some places."""

    sources: tuple[Source, ...]
    left_out: tuple[str, ...] = ()
    """Files that hold no text, in words."""
    sets: tuple[RowSet, ...] = ()
    """Conversations and comparisons that lie there as well."""

    @property
    def bytes(self) -> int:
        """Of all sources, about."""
        return sum(source.bytes for source in self.sources)

    @property
    def count(self) -> int:
        """Documents, about."""
        return sum(source.count for source in self.sources)

    @property
    def sample(self) -> list[str]:
        """Of all sources."""
        return [text for source in self.sources for text in source.sample]

    @property
    def languages(self) -> dict[str, float]:
        """Shares of the sample's characters by ISO 639-1 code, the largest first."""
        return languages_of(self.sample)

    @property
    def copies(self) -> float:
        """Share of the sample's longer documents that stood before, but for white space."""
        longer = [" ".join(text.split()) for text in self.sample if len(text) > 100]
        return 1 - len(set(longer)) / max(1, len(longer))


def languages_of(texts: Iterable[str]) -> dict[str, float]:
    """Shares of characters by language; what is too short to tell counts for none."""
    found: Counter[str] = Counter()
    for text in islice((one for one in texts if len(one.encode()) >= 40), 400):
        found[recognise(text)[0]] += len(text)
    total = sum(found.values())
    return {name: count / total for name, count in found.most_common()}


def look(places: Iterable[str]) -> Text:
    """What is at files, folders, globs and URIs; DataError if there is no text."""
    try:
        found = [look_at(place) for place in dict.fromkeys(places)]
    except DataError as error:
        raise DataError(str(error).removeprefix("shards: ")) from error
    return Text(
        tuple(source for one in found for source in one.sources),
        tuple(line for one in found for line in one.left_out),
        tuple(rows for one in found for rows in one.sets),
    )


def look_at(place: str) -> Text:
    """What is at one place."""
    if place == PYDOC:
        return Text((pydoc_source(),))
    match = find(place)
    heads = heads_of([file for file in match.files if file.bytes and not file.problem])
    sets = tuple(filter(None, map(rows_in, heads))) if match.kind != "file" else ()
    apart = {rows.path for rows in sets}
    texts = [head for head in heads if head.kind and head.file.path not in apart]
    texts = with_prose_alone(texts)
    if not texts:
        raise nothing(place, match.files, heads, sets)
    groups = defaultdict(list)
    for head in texts:
        groups[head.kind, head.key].append(head)
    taken = {head.file.path for head in texts} | apart
    rest = [head for head in heads if head.file.path not in taken]
    odd = [head.file for head in rest] + [file for file in match.files if file.problem]
    alone = len(groups) == 1 and not apart and all(head.named for head in texts)
    alone = alone and not any(format_of(file.path) for file in odd)
    shards = place if match.kind != "file" else match.files[0].path
    sources = tuple(
        source_of(group, (shards,) if alone else patterns(group, texts, match.files, place))
        for group in groups.values()
    )
    return Text(sources, tuple(left_out(rest)), sets)


def heads_of(files: list[Found]) -> list[Head]:
    """What each file is; where there are very many, what others of its suffix are."""
    by_suffix = defaultdict(list)
    for file in sorted(files, key=lambda one: one.path):
        by_suffix[suffix_of(file.path)].append(file)
    heads: list[Head] = []
    for group in by_suffix.values():
        step = -(-len(group) // MOST_HEADS)
        shards = [Shard(file.path, "txt", file.bytes) for file in group[::step]]
        looked = dict(zip(group[::step], in_parallel(head_of, shards), strict=True))
        usual = Counter((head.kind, head.key, head.why) for head in looked.values())
        kind, key, why = usual.most_common(1)[0][0]
        alike = next(head for head in looked.values() if head.kind == kind)
        heads += [
            looked.get(file) or Head(file, kind, key, alike.encoding, alike.named, why)
            for file in group
        ]
    return heads


def with_prose_alone(heads: list[Head]) -> list[Head]:
    """Files whose names tell their format, or if there are none, the most usual other suffix.

    Documents in Markdown or another markup count in any case.
    """
    good = [head for head in heads if head.named or suffix_of(head.file.path) in PROSE]
    if good or not heads:
        return good
    sizes: Counter[str] = Counter()
    for head in heads:
        sizes[suffix_of(head.file.path)] += head.file.bytes
    return [head for head in heads if suffix_of(head.file.path) == sizes.most_common(1)[0][0]]


PROSE = (".md", ".markdown", ".rst", ".text", ".tex", ".org", ".adoc")


def patterns(
    group: list[Head], texts: list[Head], files: list[Found], place: str
) -> tuple[str, ...]:
    """Globs for the suffixes of a group if they match nothing else, else the files."""
    own = {head.file.path for head in group}
    if not os.path.isdir(os.path.expanduser(place)):
        return tuple(sorted(own))
    suffixes = sorted({suffix_of(path) for path in own})
    others = {suffix_of(file.path) for file in files if file.path not in own}
    if others & set(suffixes) or "" in suffixes:
        return tuple(sorted(own))
    return tuple(f"{glob.escape(place.rstrip('/'))}/**/*{suffix}" for suffix in suffixes)


def left_out(heads: list[Head]) -> Iterator[str]:
    """`3 files .png: not text`"""
    counts = Counter((suffix_of(head.file.path) or "without a suffix", head.why) for head in heads)
    for (suffix, why), count in sorted(counts.items()):
        yield f"{count} file{'s' if count > 1 else ''} {suffix}: {why or 'no format of text'}"


def nothing(
    place: str, files: list[Found], heads: list[Head], sets: tuple[RowSet, ...]
) -> DataError:
    """Why there is no text."""
    if not files:
        return DataError(f"{place}: no file is there that is not hidden; give a folder with text")
    if problem := next((file.problem for file in files if file.problem), ""):
        return DataError(f"{place}: {problem}; mend it, or give another place")
    if not heads:
        what = "the file is empty" if len(files) == 1 else f"the {len(files)} files are empty"
        return DataError(f"{place}: {what}; give files with text in them")
    if sets:
        what = "holds conversations or comparisons but no text"
        remedy = "name text to learn the language from first, such as --text pydoc://"
        return DataError(f"{place}: {what}; {remedy}")
    why = "; ".join(islice(left_out(heads), 4))
    known = "parquet, jsonl, txt, csv, warc, wet, also .gz and .zst, or plain text"
    return DataError(f"{place}: no text found ({why}); give {known}")


# -- one source ------------------------------------------------------------------------------------


def source_of(group: list[Head], shards: tuple[str, ...]) -> Source:
    """A group of files with a sample of its documents."""
    kind, key = group[0].kind, group[0].key
    assert kind is not None
    assert kind != "json", "an array of rows is no text"
    config = TextConfig(
        shards=shards,
        format="auto" if all(head.named for head in group) else kind,
        text=key,
        documents=documents_of(group) if kind == "txt" else "file",
        encoding=encoding_of_all(group),
    )
    damages: list[Damage] = []
    files = [Shard(head.file.path, kind, head.file.bytes) for head in group]
    units = list_units(files, encoding=config.encoding, bad=damages.append)
    sample, size, count = sampled(units, config, damages)
    told = tuple(f"{one.path}: {one.detail}" for one in damages if one.reason not in NO_ERROR)
    if not sample:
        raise DataError(told[0] if told else f"{shards[0]}: holds no text but white space")
    return Source(
        shards=shards,
        format=config.format,
        kind=kind,
        text=key,
        documents=config.documents,
        encoding=config.encoding,
        files=len(group),
        bytes=size,
        count=count,
        sample=tuple(sample),
        damages=told,
    )


def pydoc_source() -> Source:
    """Python's own documentation."""
    from jobs.facts import PYDOC_BYTES
    from llm.pydoc_source import pydoc_documents

    sample = tuple(text for _, text in islice(pydoc_documents(), 400))
    return Source(
        shards=(PYDOC,),
        format="auto",
        kind="pydoc",
        text="text",
        documents="file",
        encoding="utf-8",
        files=1,
        bytes=PYDOC_BYTES,
        count=PYDOC_SOURCE_DOCUMENTS,
        sample=sample,
    )


def encoding_of_all(group: list[Head]) -> str:
    """The one encoding of all, or `detect`."""
    found = {head.encoding for head in group}
    return found.pop() if len(found) == 1 else "detect"


FEW, SMALL = 100, 20_000
"""Files, and their mean bytes, from which on and up to which one file is one document."""


def documents_of(group: list[Head]) -> Literal["file", "line", "paragraph"]:
    """What one document is in files of txt: paragraphs, if there are; long lines; or files."""
    mean = sum(head.file.bytes for head in group) / len(group)
    if len(group) >= FEW and mean < SMALL:
        return "file"
    lines = [line for head in group[:20] for line in text_in(head).splitlines()]
    full = [line for line in lines if line.strip()]
    blank = len(lines) - len(full)
    if blank >= max(4, len(full) / 40):
        return "paragraph"
    long = sum(map(len, full)) / max(1, len(full)) > 60
    return "line" if long and len(full) >= 20 else "file"


def text_in(head: Head) -> str:
    """The beginning of a file, whose last character may be cut."""
    return codecs.getincrementaldecoder(head.encoding)("replace").decode(head.data)


def sampled(
    units: list[Unit], config: TextConfig, damages: list[Damage]
) -> tuple[list[str], int, int]:
    """Documents from all over, and the bytes and number of all documents, reckoned from them."""
    step = -(-len(units) // UNITS)
    sample: list[str] = []
    shares = []
    chosen = units[step // 2 :: step]
    for unit in chosen:
        found = documents_in(unit, config, damages, SAMPLE_BYTES // len(chosen))
        sample += [document.text for document in found]
        shares.append((found, seen_of(unit, found, SAMPLE_BYTES // len(chosen))))
    seen = sum(part for _, part in shares)
    texts = sum(len(text.encode()) for text in sample)
    whole = sum(unit.bytes for unit in units) / max(1, seen)
    return sample, round(texts * whole), max(1, round(len(sample) * whole))


def documents_in(
    unit: Unit, config: TextConfig, damages: list[Damage], most: int
) -> list[Document]:
    """The first documents of a unit, up to so many bytes."""
    found, size = [], 0
    for document in read_documents(unit, config, damages.append):
        found.append(document)
        size += len(document.text.encode())
        if size >= most:
            break
    return found


def seen_of(unit: Unit, found: list[Document], most: int) -> float:
    """Bytes of a unit that were read for these documents."""
    if sum(len(one.text.encode()) for one in found) < most:
        return unit.bytes
    last = found[-1]
    if unit.format == "parquet":
        return unit.bytes * (int(last.place) + 1 - unit.start) / (unit.stop - unit.start)
    if unit.format == "csv":
        return sum(len(one.text.encode()) for one in found)  # other columns are not known of
    return int(last.place) - unit.start + len(last.text.encode())


def named_after(places: Iterable[str]) -> str:
    """A name for a run on this text."""
    first = next(iter(places))
    if first == PYDOC:
        return "pydoc"
    stem = Path(first.rstrip("/*")).name.partition(".")[0]
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in stem)
    return plain.strip("-") or "mine"
