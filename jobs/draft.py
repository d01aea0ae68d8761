"""The text of a spec for what was found: YAML whose comments say why each value is what it is."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.drafted_prompts import first_words, with_a_gap
from jobs.figures import percent
from jobs.found import Source, Text
from jobs.found_rows import RowSet
from jobs.load import output
from jobs.machine import Machine
from jobs.sized import GOOD_PASSES, MOST_PASSES, Sizes
from jobs.stages import PYDOC
from llm.errors import DataError
from llm.filesystem import is_uri
from llm.metrics import duration, quantity, size_of

Purpose = Literal["text", "fill", "chat"]

FAMILIES = {"text": "decoder", "fill": "encoder", "chat": "decoder"}

LARGE = 100_000_000
"""Bytes of text from which on copies are worth looking for."""

MANY_COPIES = 0.02

SCHEMA = Path(__file__).parent / "schema.json"


@dataclass(frozen=True)
class Draft:
    """All that a spec is made of."""

    name: str
    purpose: Purpose
    text: Text
    sets: tuple[RowSet, ...]
    sizes: Sizes
    machine: Machine
    seconds: float
    """That the run may take."""
    out: Path

    @property
    def chats(self) -> list[RowSet]:
        """Conversations."""
        return [one for one in self.sets if not one.compares]

    @property
    def compared(self) -> list[RowSet]:
        """Comparisons."""
        return [one for one in self.sets if one.compares]

    @property
    def last(self) -> str:
        """The stage whose model is the result."""
        return "dpo" if self.compared else "sft" if self.chats else "pretrain"


def mess(text: Text) -> list[str]:
    """Why a text should be cleaned first; nothing if it can be trained on as it is."""
    if [source.shards for source in text.sources] == [(PYDOC,)]:
        return []
    reasons = []
    if len(text.sources) > 1:
        reasons.append(f"{len(text.sources)} kinds of files, each read in its own way")
    if any(source.kind in ("warc", "wet") for source in text.sources):
        reasons.append("web pages, of which only the text counts")
    damages = [damage for source in text.sources for damage in source.damages]
    if damages:
        reasons.append(f"records that cannot be read, such as {damages[0].partition(';')[0]}")
    if text.copies > MANY_COPIES:
        reasons.append(f"{text.copies:.0%} of the documents looked at stand there twice")
    if text.bytes > LARGE:
        reasons.append(f"{size_of(text.bytes)}, in which there are always copies")
    return reasons


def written(draft: Draft) -> str:
    """The YAML."""
    parts = [*head(draft), *cluster(draft)]
    reasons = mess(draft.text)
    parts += [] if reasons else data(draft)
    parts += ["", "stages:"]
    blocks = [corpus(draft, reasons)] if reasons else []
    blocks += [tokenizer(draft, bool(reasons)), pretrain(draft, bool(reasons))]
    blocks += [sft(draft)] if draft.chats else []
    blocks += [dpo(draft)] if draft.compared else []
    blocks += [generate(draft)]
    blocks += [serve(draft)] if draft.purpose != "fill" else []
    for number, block in enumerate(blocks):
        parts += [""] * bool(number)
        parts += [f"  {line}".rstrip() for line in block]
    return "\n".join(one_line(part) for part in parts) + "\n"


# -- what stands above the stages ------------------------------------------------------------------


def head(draft: Draft) -> Iterator[str]:
    """What the file is, what was found, what it is meant to take."""
    file = os.path.relpath(draft.out)
    yield f"# yaml-language-server: $schema={os.path.relpath(SCHEMA, draft.out.parent)}"
    yield "#"
    yield f"# {TITLES[draft.purpose]} `python -m jobs init` wrote this; every value may be changed."
    yield "#"
    yield f"#   python -m jobs plan {file}"
    yield f"#   python -m jobs run {file}"
    yield "#"
    for line in found(draft.text):
        yield f"# Found    {line}"
    for rows in draft.sets:
        yield f"#          {in_words(rows)}"
    yield f"# Machine  {draft.machine.words}"
    took, wanted = duration(draft.sizes.seconds), duration(draft.seconds)
    yield f"# Time     about {took} of the {wanted} wanted, {speed(draft)}"
    yield ""
    yield f"name: {quoted(draft.name)}"
    yield "seed: 1337                    # same seed, same result"
    yield f"storage: runs                 # all that is made: {output('runs')}"


TITLES = {
    "text": "A model that continues text.",
    "fill": "A model that fills in what is hidden.",
    "chat": "A model that answers.",
}


def found(text: Text) -> list[str]:
    """The text in words, a line each source and one for the whole."""
    lines = []
    for source in text.sources:
        if source.kind == "pydoc":
            lines.append("Python's own documentation, 2 MB")
            continue
        files = f"{source.files:,} file{'s' if source.files > 1 else ''} of {source.kind}"
        how = {"paragraph": ", a document a paragraph", "line": ", a document a line"}
        cut = how.get(source.documents, "") if source.kind == "txt" else ""
        key = f", text under {source.text!r}" if source.kind in ("jsonl", "csv", "parquet") else ""
        lines.append(
            f"{files}, {size_of(source.bytes)}, about {source.count:,} documents{cut}{key}, "
            f"{source.encoding}"
        )
    tongues = [f"{name} {share:.0%}" for name, share in text.languages.items() if share >= 0.05]
    return [*lines, f"languages: {', '.join(tongues) or 'too little to tell'}"]


def in_words(rows: RowSet) -> str:
    """A set of rows in words."""
    kind = "comparisons" if rows.compares else "conversations"
    name = rows.path if rows.path == PYDOC else Path(rows.path).name
    return f"{name}: {rows.rows:,} {kind}, {size_of(rows.bytes)}, schema {rows.schema}"


def speed(draft: Draft) -> str:
    """What the time goes by."""
    each = quantity(draft.machine.flops)
    if draft.machine.measured:
        return f"at the last run's {each} FLOP/s"
    return f"if it does {each} FLOP/s; `plan` knows after the first run"


def cluster(draft: Draft) -> Iterator[str]:
    """The machines."""
    machine = draft.machine
    yield ""
    yield "cluster:"
    yield f"  workers: {machine.workers:<19}# processes that train one model together"
    if machine.gpus:
        yield "  gpus_per_worker: 1"


def data(draft: Draft) -> Iterator[str]:
    """A text that is trained on as it is."""
    [source] = draft.text.sources
    yield ""
    yield "data:"
    yield from (f"  {line}" for line in reading(source, draft))
    share, tokens = held_out(draft.text), 16384 if draft.machine.flops < 1e13 else 32768
    if not share:
        yield "  validation: {fraction: 0}   # so little text that all of it is for training"
        return
    count = f"about {share * draft.text.count:,.0f} documents are held out and measure the model"
    yield f"  validation: {{fraction: {share:.2g}, tokens: {tokens}}}   # {count}"


def reading(source: Source, draft: Draft) -> Iterator[str]:
    """How a source is read; what is usual is left out."""
    if len(source.shards) == 1:
        yield f"shards: {path(source.shards[0], draft)}"
    else:
        yield "shards:"
        yield from (f"  - {path(one, draft)}" for one in source.shards)
    if source.format != "auto":
        yield f"format: {source.format}"
    if source.text != "text":
        yield f"text: {quoted(source.text)}              # the key that holds a document's text"
    if source.documents != "file":
        yield f"documents: {source.documents}          # what one document is"
    if source.encoding != "utf-8":
        yield f"encoding: {source.encoding}"


def held_out(text: Text) -> float:
    """Share of documents that are held out: a twentieth, more of few, less of very many."""
    if text.count < 20:
        return 0.0
    usual = 0.05 if text.count < 200_000 else 0.005
    return min(0.2, max(usual, 20 / text.count))


# -- stages ----------------------------------------------------------------------------------------


def corpus(draft: Draft, reasons: list[str]) -> list[str]:
    """Cleaning."""
    lines = ["corpus:"]
    lines += [f"  # {reason}" for reason in reasons]
    lines += ["  kind: corpus", "  sources:"]
    for number, source in enumerate(draft.text.sources, start=1):
        name = source.kind if len(draft.text.sources) == 1 else f"{source.kind}{number}"
        lines += [f"    {name}:", *(f"      {line}" for line in reading(source, draft))]
    tongues = [name for name, share in draft.text.languages.items() if share >= 0.05]
    keep = ", ".join(tongues) or "en"
    lines += [
        "  bad_files: skip             # counted in the ledger; `fail` stops instead",
        "  dedup: {near: {threshold: 0.8}}",
        "  # filter: {characters: {least: 80}}",
        f"  # filter: {{language: {{keep: [{keep}], threshold: 0.5}}}}",
        "  # clean: {emails: true, phones: true}",
    ]
    share = held_out(draft.text)
    return [*lines, f"  validation: {share:.2g}            # share of documents held out"]


def tokenizer(draft: Draft, cleaned: bool) -> list[str]:
    """How text is cut."""
    sizes = draft.sizes
    lines = ["tokenizer:", "  kind: tokenizer"]
    lines += ["  corpus: corpus"] if cleaned else []
    if sizes.characters:
        why = f"{size_of(draft.text.bytes)} are too few for longer tokens"
        return [*lines, f"  model: char                 # {why}", "  coverage: 1.0"]
    why = f"for {size_of(draft.text.bytes)} of text"
    lines += [f"  vocab_size: {sizes.vocab:<16}# {why}"]
    if sizes.coverage != 0.9995:
        rare = f"{percent(1 - sizes.coverage)} of the characters are rare ones, spelt in bytes"
        lines += [f"  coverage: {sizes.coverage:<18}# {rare}", "  byte_fallback: true"]
    return lines


def pretrain(draft: Draft, cleaned: bool) -> list[str]:
    """The model and its training."""
    sizes = draft.sizes
    tokens = quantity(sizes.steps * sizes.batch * sizes.context)
    enough = "; more teach nothing" if sizes.passes > 0.95 * MOST_PASSES else ""
    family = "family: encoder, " if draft.purpose == "fill" else ""
    rest = ", dropout: 0.1" if sizes.passes > 2 * GOOD_PASSES else ""
    model = f"{{{family}depth: {sizes.depth}, context: {sizes.context}{rest}}}"
    lines = ["pretrain:", "  kind: pretrain", "  tokenizer: tokenizer"]
    lines += ["  corpus: corpus"] if cleaned else []
    lines += [
        f"  # {quantity(sizes.parameters)} parameters; deeper: no, for {sizes.why}",
        f"  model: {model}",
        f"  batch: {sizes.batch:<21}# rows of {sizes.context} tokens in an update",
        f"  steps: {sizes.steps:<21}# {tokens} tokens, about {sizes.passes:.2g} passes{enough}",
        f"  prompt: {prompt(draft)}   # continued at every validation, for you to watch",
    ]
    return lines


def prompt(draft: Draft) -> str:
    """What a pretrained model is asked for, as YAML."""
    make = with_a_gap if draft.purpose == "fill" else first_words
    return quoted(make(draft.text.sample), always=True)


def sft(draft: Draft) -> list[str]:
    """Conversations."""
    epochs = draft.sizes.epochs
    lines = ["sft:", "  kind: sft", "  from: pretrain", "  data:"]
    lines += [f"    - {row_set(rows, draft)}" for rows in draft.chats]
    lines += [
        f"  epochs: {epochs:<20}# passes over {sum(r.rows for r in draft.chats):,} conversations"
    ]
    return [*lines, *asked(draft)]


def dpo(draft: Draft) -> list[str]:
    """Comparisons, the cheap way; the whole way as a comment."""
    sets = [row_set(rows, draft) for rows in draft.compared]
    chats = [row_set(rows, draft) for rows in draft.chats]
    lines = ["dpo:                          # straight from the comparisons", "  kind: dpo"]
    lines += ["  from: sft", "  data:", *(f"    - {one}" for one in sets), *asked(draft)]
    whole = [
        "",
        "# The whole way, in place of dpo: a model of what people like, and PPO against it.",
    ]
    whole += ["# reward:", "#   kind: reward", "#   from: sft", f"#   data: [{', '.join(sets)}]"]
    whole += ["# ppo:", "#   kind: ppo", "#   from: sft", "#   reward: reward"]
    return [*lines, *whole, f"#   data: [{', '.join(chats)}]", "#   steps: 100"]


def asked(draft: Draft) -> Iterator[str]:
    """Questions for validations."""
    questions = [quoted(q, always=True) for q in questions_of(draft)]
    if questions:
        yield f"  prompts: [{', '.join(questions)}]   # answered at every validation"


def questions_of(draft: Draft) -> list[str]:
    """What the conversations ask, each once."""
    return list(dict.fromkeys(rows.question for rows in draft.sets if rows.question))[:3]


def row_set(rows: RowSet, draft: Draft) -> str:
    """A data set in one line of YAML."""
    columns = ", ".join(f"{name}: {quoted(place)}" for name, place in rows.columns.items())
    where = f", columns: {{{columns}}}" if columns else ""
    return f"{{shards: {path(rows.path, draft)}, schema: {rows.schema}{where}}}"


def generate(draft: Draft) -> list[str]:
    """What the finished model writes."""
    questions = [quoted(one, always=True) for one in questions_of(draft)]
    chosen = ", ".join(questions) if draft.chats and questions else prompt(draft)
    how = "{temperature: 0}" if draft.purpose == "fill" else "{temperature: 0.8, top_p: 0.9}"
    lines = ["generate:", "  kind: generate", f"  from: {draft.last}"]
    return [*lines, f"  prompts: [{chosen}]", f"  sampling: {how}"]


def serve(draft: Draft) -> list[str]:
    """An endpoint and a page."""
    command = f"python -m jobs serve {os.path.relpath(draft.out)}"
    return [f"serve:   # not part of the run: {command}", "  kind: serve", f"  from: {draft.last}"]


# -- YAML ------------------------------------------------------------------------------------------

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*|[./~][A-Za-z0-9_./-]*[A-Za-z_]")
WORDS = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")


def quoted(text: str, always: bool = False) -> str:
    """A string as YAML, with quotes where it needs them."""
    if not always and PLAIN.fullmatch(text) and text.lower() not in WORDS:
        return text
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def path(place: str, draft: Draft) -> str:
    """A place as the file names it: from its own folder if it lies below, else absolute."""
    if is_uri(place):
        return quoted(place, always=place != PYDOC)
    whole = os.path.abspath(os.path.expanduser(place))
    here = str(draft.out.parent.resolve())
    below = os.path.commonpath([whole, here]) == here
    try:
        whole.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{place!r}: its name is not UTF-8, as YAML must be; rename it") from error
    return quoted(os.path.relpath(whole, here) if below else whole)


def one_line(text: str) -> str:
    """A line whose comment cannot break out of it."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
