"""C4's rules (Raffel et al. 2020, section 2.2): lines are removed, then what is left is judged.

Sentences are counted by their ends inside a line: a mark, perhaps closing quotes, then a space and
something that is not a small letter; or a Chinese mark. After initials, titles and the like a
period ends nothing. Every line that is kept ends one more.
"""

import re

from llm.corpus_config import C4Config
from llm.words import find_words

ENDS = (".", "?", "!", '"', "'", "”", "’", "。", "？", "！", "」", "』")

ELLIPSES = ("...", "…")

LINE_RULES = ("line_ends", "least_line_words", "javascript")
"""What a document is dropped by if it has no line left and needs no sentences."""

SENTENCE_END = re.compile(
    r"[.!?…]+(?<!\b[A-Z]\.)(?<!\b(?:Mr|Dr|Ms|St|vs|Jr|Sr|Co|Lt)\.)"
    r"(?<!\b(?:Mrs|Inc|Ltd|Rev|Gen|Col|e\.g|i\.e)\.)[\"'”’)\]]*(?=[^\S\n]+[^\sa-z])"
    r"|[。！？]+[”’」』）]*(?=[^\n”’」』）])"
)


def keep_lines(text: str, config: C4Config) -> str:
    """The text's lines that a document consists of."""
    lines = text.splitlines()
    if config.line_ends:
        lines = [line for line in lines if is_ended(line.rstrip())]
    if config.least_line_words:
        least = config.least_line_words
        lines = [line for line in lines if has_words(line, least)]
    if config.javascript:
        lines = [line for line in lines if "javascript" not in line.lower()]
    return "\n".join(lines)


def is_ended(line: str) -> bool:
    """Whether a line ends as a sentence does, which it does not by breaking off ..."""
    return line.endswith(ENDS) and not line.endswith(ELLIPSES)


def has_words(line: str, least: int) -> bool:
    """Whether a line has so many words, by spaces or in scripts without."""
    return len(line.split(None, least)) >= least or (
        not line.isascii() and len(find_words(line)) >= least
    )


def broken_rule(text: str, config: C4Config) -> str | None:
    """The first rule that a text breaks, as it is after the removal of lines."""
    if config.least_sentences and sentences(text) < config.least_sentences:
        return "least_sentences"
    if not text.strip():
        return next((name for name in LINE_RULES if getattr(config, name)), None)
    if config.lorem_ipsum and "lorem ipsum" in text.lower():
        return "lorem_ipsum"
    if config.braces and ("{" in text or "}" in text):
        return "braces"
    return None


def sentences(text: str) -> int:
    """Sentences of a text, each line of which ends one."""
    lines = sum(not line.isspace() for line in text.splitlines() if line)
    return lines + len(SENTENCE_END.findall(text))
