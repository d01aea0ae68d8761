"""What a corpus is made of: sources, cleaning, filters, duplicates. Neither torch nor ray.

Every rule has a name, which is its key here and its name in the ledger, and a threshold. A group of
rules that is not mentioned in the spec is off; `gopher: {}` turns a group on as its paper has it,
and `stop_words: null` inside turns one of its rules off.
"""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from llm.config import (
    AtLeastOneString,
    Count,
    CountOrZero,
    Rate,
    Share,
    ShareBelowOne,
    TextConfig,
    record,
)


@record
class SourceConfig(TextConfig):
    """One source of documents."""

    id: str | None = None
    """Column or key that names a document; without one its file and its place in it do."""
    weight: Rate | None = None
    """Share of the training tokens relative to other sources; none: as much as it has."""
    cap: Count | None = None
    """Bytes of clean text kept at most, chosen by a hash of each document; none: all."""


@record
class CleanConfig:
    """How the text of a document is put in order."""

    unicode: Literal["none", "nfc", "nfkc"] = "nfc"
    """Unicode normalisation."""
    control: bool = True
    """Remove control and zero-width characters but tabs and joiners; line ends become \\\\n."""
    whitespace: bool = True
    """Trim the ends of lines and the document; of several blank lines keep one."""
    boilerplate: bool = False
    """Remove lines of menus, cookie notices, copyright and sharing buttons."""
    url_lines: Share | None = None
    """Remove lines of which more than this share is URLs."""
    emails: bool = False
    """Replace e-mail addresses by <email>."""
    phones: bool = False
    """Replace telephone numbers by <phone>."""
    ips: bool = False
    """Replace public IP addresses by <ip>."""


@record
class LanguageConfig:
    """Which languages are kept."""

    keep: AtLeastOneString
    """ISO 639-1 codes: en, zh, de, ..."""
    threshold: Share = 0.65
    """Least probability of the recognised language."""


@record
class CharactersConfig:
    """Length of a document."""

    least: CountOrZero = 0
    """Characters a document has at least."""
    most: Count | None = None
    """Characters a document has at most."""


@record
class GopherConfig:
    """Quality rules of Rae et al. 2021 (Gopher), table A1: a document is kept if all hold."""

    least_words: CountOrZero | None = 50
    """Words at least."""
    most_words: Count | None = 100_000
    """Words at most."""
    least_word_length: Rate | None = 3.0
    """Mean length of words at least, in characters."""
    most_word_length: Rate | None = 10.0
    """Mean length of words at most."""
    symbols: Share | None = 0.1
    """Hash signs, and ellipses, for each word at most."""
    bullet_lines: Share | None = 0.9
    """Share of lines that begin with a bullet at most."""
    ellipsis_lines: Share | None = 0.3
    """Share of lines that end with an ellipsis at most."""
    alphabetic_words: Share | None = 0.8
    """Share of words, as white space parts them, with a letter in them at least."""
    stop_words: CountOrZero | None = 2
    """Of the, be, to, of, and, that, have, with: at least so many different ones."""


@record
class RepetitionConfig:
    """Repetition rules of Rae et al. 2021 (Gopher), table A1: shares at most."""

    lines: Share | None = 0.3
    """Lines that stood before."""
    line_characters: Share | None = 0.2
    """Characters in lines that stood before."""
    paragraphs: Share | None = 0.3
    """Paragraphs that stood before."""
    paragraph_characters: Share | None = 0.2
    """Characters in paragraphs that stood before."""
    top_2_gram: Share | None = 0.20
    """Characters in the most frequent pair of words."""
    top_3_gram: Share | None = 0.18
    """Characters in the most frequent run of three words."""
    top_4_gram: Share | None = 0.16
    """Characters in the most frequent run of four words."""
    repeated_5_grams: Share | None = 0.15
    """Characters in runs of five words that stood before."""
    repeated_6_grams: Share | None = 0.14
    """Characters in runs of six words that stood before."""
    repeated_7_grams: Share | None = 0.13
    """Characters in runs of seven words that stood before."""
    repeated_8_grams: Share | None = 0.12
    """Characters in runs of eight words that stood before."""
    repeated_9_grams: Share | None = 0.11
    """Characters in runs of nine words that stood before."""
    repeated_10_grams: Share | None = 0.10
    """Characters in runs of ten words that stood before."""


@record
class C4Config:
    """Rules of Raffel et al. 2020 (C4): lines are removed first, then the document is judged."""

    line_ends: bool = True
    """Keep only lines that end in a period, question or exclamation mark, or closing quote."""
    least_line_words: CountOrZero | None = 3
    """Keep only lines of so many words at least."""
    javascript: bool = True
    """Remove lines that mention JavaScript."""
    least_sentences: CountOrZero | None = 5
    """Sentences a document has at least."""
    lorem_ipsum: bool = True
    """Drop documents with "lorem ipsum"."""
    braces: bool = True
    """Drop documents with a curly bracket, as code has them."""


@record
class WordsConfig:
    """Words that are not wanted."""

    file: str
    """A file with one word or phrase a line; case does not matter."""
    most: CountOrZero = 0
    """Occurrences in a document at most."""


@record
class FilterConfig:
    """Which documents are kept; a document counts under the first rule that it breaks."""

    characters: CharactersConfig | None = None
    """Length."""
    language: LanguageConfig | None = None
    """Language, recognised by py3langid."""
    gopher: GopherConfig | None = None
    """Gopher's quality rules; made for languages with spaces between words."""
    repetition: RepetitionConfig | None = None
    """Gopher's repetition rules."""
    c4: C4Config | None = None
    """C4's rules."""
    words: WordsConfig | None = None
    """A list of unwanted words."""


@record
class NearConfig:
    """Near duplicates: documents whose sets of word n-grams are alike (MinHash, Broder 1997)."""

    threshold: Share = 0.8
    """Jaccard similarity from which on two documents are duplicates, computed exactly."""
    ngram: Count = 5
    """Words of an n-gram; where a script has no spaces, characters."""
    permutations: Count = 112
    """Length of a signature."""
    bands: Count = 16
    """Parts of the signature; documents that agree in one of them are compared."""
    seed: CountOrZero = 1
    """Decides the permutations."""


@record
class DedupConfig:
    """Which copies are dropped: all but the one that comes first, by source, file and place."""

    exact: bool = True
    """Documents whose text is equal but for case, white space, punctuation and Unicode form."""
    near: NearConfig | None = None
    """Near duplicates; {} for the usual thresholds, left out: they stay."""


@record
class DecontaminateConfig:
    """Documents that contain parts of an evaluation set are dropped."""

    shards: AtLeastOneString
    """Evaluation files, folders or globs: jsonl, json, txt, parquet, csv; all strings count."""
    ngram: Annotated[int, Ge(5), Le(50)] = 13
    """Words (or characters, where a script has no spaces) in a row that must not be shared."""


@record
class CorpusConfig:
    """From messy files to clean, mixed, deduplicated shards."""

    sources: Annotated[dict[str, SourceConfig], MinLen(1)]
    """Where documents come from, by names that you choose."""
    bad_files: Literal["skip", "fail"] = "skip"
    """What happens to damaged files, lines and records: counted and left out, or an error."""
    largest_document: Count = 10_000_000
    """Bytes of a document at most; longer ones are counted and left out, never held in memory."""
    clean: CleanConfig = field(default_factory=CleanConfig)
    """How text is put in order."""
    filter: FilterConfig = field(default_factory=FilterConfig)
    """Which documents are kept."""
    dedup: DedupConfig = field(default_factory=DedupConfig)
    """Which copies are dropped."""
    decontaminate: DecontaminateConfig | None = None
    """Evaluation sets that must not be in the corpus."""
    validation: ShareBelowOne = 0.005
    """Share of documents held out of training, chosen by a hash of their text."""
    shard_bytes: Count = 256_000_000
    """Bytes of text in a shard at most."""
