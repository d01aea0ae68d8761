"""Whether a document is kept: rules with names and bounds, cheap ones first, language last.

C4's come first since they remove lines: every other rule judges the text that would be kept. The
reason of a verdict is the name of the first rule that is broken, as the spec writes it:
characters.least, gopher.stop_words, words.
"""

from typing import NamedTuple

from llm import c4, gopher, repetition
from llm.corpus_config import CharactersConfig, FilterConfig
from llm.language import is_wanted
from llm.view import View
from llm.word_list import read_word_list


class Verdict(NamedTuple):
    """The text that is kept and None, or why it is not."""

    text: str
    reason: str | None


class Filters:
    """The rules of a config; reads the word list when it is made, and can be pickled."""

    def __init__(self, config: FilterConfig) -> None:
        self.config = config
        self.words = read_word_list(config.words.file) if config.words else None

    def judge(self, text: str) -> Verdict:
        """Look at a text rule by rule until one is broken."""
        rules = self.config.c4
        if rules is not None:
            text = c4.keep_lines(text, rules)
            if broken := c4.broken_rule(text, rules):
                return Verdict(text, f"c4.{broken}")
        return Verdict(text, self.broken_rule(text))

    def broken_rule(self, text: str) -> str | None:
        """The name of the first rule that a text breaks, C4's aside."""
        config, view = self.config, View(text)
        if config.characters and (broken := broken_length(text, config.characters)):
            return f"characters.{broken}"
        if config.gopher and (broken := gopher.broken_rule(view, config.gopher)):
            return f"gopher.{broken}"
        if config.words and self.words and self.words.count(text) > config.words.most:
            return "words"
        if config.repetition and (broken := repetition.broken_rule(view, config.repetition)):
            return f"repetition.{broken}"
        if config.language and not is_wanted(text, config.language):
            return "language"
        return None


def broken_length(text: str, config: CharactersConfig) -> str | None:
    """Which bound of its length a text breaks."""
    if len(text) < config.least:
        return "least"
    return "most" if config.most is not None and len(text) > config.most else None
