"""What the plan says of a corpus: its sources, the rules that are on, and what a run kept."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from jobs.figures import counted, percent
from jobs.stages import CorpusStage
from llm.corpus_config import CleanConfig, DedupConfig, FilterConfig
from llm.metrics import size_of

Rows = Iterator[tuple[str, str]]


def corpus_rows(corpus: CorpusStage, sizes: Mapping[str, int], metrics: Mapping[str, Any]) -> Rows:
    """Sources with their sizes, what is done to them, and what came out if it is finished."""
    weights = sum(corpus.weights.values())
    for number, name in enumerate(corpus.sources):
        yield "" if number else "sources", source(name, corpus, sizes[name], weights)
    yield "cleaning", cleaning(corpus.clean)
    yield "filters", ", ".join(groups(corpus.filter)) or "none: every document passes"
    yield "duplicates", duplicates(corpus.dedup)
    if corpus.decontaminate is not None:
        ngram = corpus.decontaminate.ngram
        yield "evaluation", f"documents that share {ngram} words in a row with it are dropped"
    yield "held out", f"{percent(corpus.validation)} of the documents, by a hash of each"
    if "train_documents" in metrics:
        documents, size = metrics["train_documents"], size_of(metrics["train_bytes"])
        yield "result", f"{counted(documents, 'document')} to train on, {size}"


def source(name: str, corpus: CorpusStage, size: int, weights: float) -> str:
    """`wiki: 1.2 GB, 70% of the training tokens, 10 MB at most`"""
    config = corpus.sources[name]
    parts = [f"{name}: {size_of(size)}"]
    if config.weight is not None:
        parts.append(f"{percent(config.weight / weights)} of the training tokens")
    if config.cap is not None:
        parts.append(f"{size_of(config.cap)} at most")
    return ", ".join(parts)


def cleaning(clean: CleanConfig) -> str:
    """The steps that are on, by their keys."""
    form = [] if clean.unicode == "none" else [clean.unicode]
    others = (one.name for one in fields(clean) if one.name != "unicode")
    on = [name for name in others if getattr(clean, name) not in (False, None)]
    return ", ".join([*form, *on]) or "none: text stays as it is"


def groups(config: FilterConfig) -> Iterator[str]:
    """Groups of rules that are on, with those of their rules that are off."""
    for one in fields(config):
        rules = getattr(config, one.name)
        if rules is not None:
            off = [rule.name for rule in fields(rules) if is_off(rules, rule.name)]
            yield f"{one.name} (without {', '.join(off)})" if off else one.name


def is_off(rules: Any, name: str) -> bool:
    """Whether a rule that is usually on was turned off."""
    default = next(one.default for one in fields(rules) if one.name == name)
    value = getattr(rules, name)
    return value in (None, False) and value is not default


def duplicates(dedup: DedupConfig) -> str:
    """Which copies are dropped."""
    near = dedup.near
    kinds = ["equal ones"] if dedup.exact else []
    if near is not None:
        kinds.append(f"those {percent(near.threshold)} alike (runs of {near.ngram} words)")
    return " and ".join(kinds) + " are dropped" if kinds else "stay"
