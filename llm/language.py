"""In which language a document is written, by py3langid (Lui & Baldwin 2011).

The model is a table of byte n-grams walked in python, 60 ns a byte, so only an excerpt is looked
at: as much as tells languages apart, from three places, since a page begins and ends with menus.
Probabilities are py3langid's own normalised ones, calibrated for the length of what it sees.
"""

from functools import cache
from typing import Any

from llm.corpus_config import LanguageConfig

EXCERPT = 300
"""Characters of each of the three places."""


def is_wanted(text: str, config: LanguageConfig) -> bool:
    """Whether a text is, surely enough, in one of the languages that are kept."""
    language, probability = recognise(text)
    return language in config.keep and probability >= config.threshold


def recognise(text: str) -> tuple[str, float]:
    """ISO 639-1 code of the most probable language, and its probability."""
    language, probability = identifier().classify(excerpt(text))
    return str(language), float(probability)


def excerpt(text: str) -> str:
    """The text if it is short, else its beginning, middle and end."""
    if len(text) <= 3 * EXCERPT:
        return text
    middle = (len(text) - EXCERPT) // 2
    return f"{text[:EXCERPT]} {text[middle : middle + EXCERPT]} {text[-EXCERPT:]}"


@cache
def identifier() -> Any:
    """py3langid's model, loaded once a process."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
