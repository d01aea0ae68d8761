"""What must hold inside a corpus stage; findings are (path, message), paths start at the stage.

A language that nobody knows, or a threshold that nothing can reach, would not fail: it would drop
every document hours later. So such things are found here.
"""

import re
from collections.abc import Iterator

from jobs.shape import did_you_mean
from jobs.stages import PYDOC, CorpusStage
from jobs.yaml_source import Keys
from llm.config import TextConfig
from llm.corpus_config import FilterConfig, NearConfig, SourceConfig
from llm.encodings import check_encoding
from llm.errors import DataError

Findings = Iterator[tuple[Keys, str]]

SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Of its files too: those that begin with _ are hidden."""

NAMELESS = ("txt", "warc", "wet")
"""Formats without columns: nothing in them can name a document."""

LANGUAGES = """
ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa
fi fo fr fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka
kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc
om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt
ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu zxx
"""
"""What py3langid can recognise; it takes half a second to ask it."""


def of_corpus(stage: CorpusStage) -> Findings:
    """Everything about a corpus."""
    for name, source in stage.sources.items():
        keys = ("sources", name)
        if not SOURCE_NAME.fullmatch(name):
            yield keys, "a source's name is made of letters, digits, _ and -, not _ or - first"
        for inner, message in of_source(source):
            yield (*keys, *inner), message
    yield from of_weights(stage)
    for inner, message in of_filter(stage.filter):
        yield ("filter", *inner), message
    if stage.dedup.near is not None:
        for inner, message in of_near(stage.dedup.near):
            yield ("dedup", "near", *inner), message


def of_source(source: SourceConfig) -> Findings:
    """A source is read as any text; documents of formats without columns have no name of theirs."""
    yield from of_text(source)
    if source.id is not None and source.format in NAMELESS:
        message = f"{source.id!r} has no effect: {source.format} has no columns; leave it out"
        yield ("id",), message


def of_text(text: TextConfig) -> Findings:
    """Python knows the encoding; its documentation is a corpus of its own, in its own format."""
    try:
        check_encoding(text.encoding)
    except DataError as error:
        yield ("encoding",), str(error).removeprefix("encoding: ")
    yield from of_shards(text.shards)
    if PYDOC in text.shards and text.format not in ("auto", "parquet"):
        yield ("format",), f"{text.format!r} is not allowed: {PYDOC} is parquet; leave format out"


def of_shards(shards: tuple[str, ...]) -> Findings:
    """Python's documentation is not mixed with files."""
    if PYDOC in shards and len(shards) > 1:
        yield ("shards",), f"{PYDOC} stands alone, it cannot be mixed with other shards"


def of_weights(stage: CorpusStage) -> Findings:
    """A weight says something only beside other weights."""
    without = [name for name, source in stage.sources.items() if source.weight is None]
    if not without or len(without) == len(stage.sources):
        return
    for name in without:
        others = ", ".join(without)
        message = f"missing: either all sources have a weight or none has; without one: {others}"
        yield ("sources", name, "weight"), message


def of_filter(config: FilterConfig) -> Findings:
    """Languages are known ones, and what is least is not more than what is most."""
    if config.language is not None:
        for number, code in enumerate(config.language.keep):
            if code not in LANGUAGES.split():
                yield ("language", "keep", number), unknown_language(code)
    if config.characters is not None:
        yield from in_order(config.characters, "characters", "least", "most")
    if config.gopher is not None:
        yield from in_order(config.gopher, "gopher", "least_words", "most_words")
        yield from in_order(config.gopher, "gopher", "least_word_length", "most_word_length")


def unknown_language(code: str) -> str:
    """A code that is none, or one written otherwise: EN, zh-cn, english."""
    known = LANGUAGES.split()
    simple = re.split("[-_]", code.lower())[0]
    meant = [simple] if simple in known else [simple[:2]] if simple[:2] in known else []
    return (
        f"{code!r} is not a language that is recognised;{did_you_mean(meant)} "
        f"allowed: {', '.join(known)}"
    )


def in_order(config: object, group: str, least: str, most: str) -> Findings:
    """A lower bound above the upper one would drop everything."""
    low, high = getattr(config, least), getattr(config, most)
    if None not in (low, high) and low > high:
        yield (group, least), f"{low} is not allowed; must be at most `{most}`, which is {high}"


def of_near(near: NearConfig) -> Findings:
    """Bands are equal parts of a signature."""
    if near.permutations % near.bands:
        yield (
            ("bands",),
            (f"{near.bands} is not allowed; must divide the {near.permutations} permutations"),
        )
