"""What a stage takes from outside the spec: which text, how it is read, and how much of it.

`known_to` is the part of a stage's identity that comes from files. It holds digests in place of
paths, so the same text in another folder is the same text.
"""

from collections.abc import Mapping
from typing import Any

from jobs.facts import Facts, Text, rule_file
from jobs.kinds import reads_data
from jobs.spec import Spec
from jobs.stages import (
    AnyStage,
    CorpusStage,
    EvaluateStage,
    ExampleStage,
    ImportStage,
    PpoStage,
    PretrainStage,
    TokenizerStage,
)
from llm.config import DataConfig, ValidationConfig

MOST_FILES = 1000
"""Files that a manifest lists; all are counted, and the digest stands for all."""


def known_to(name: str, stage: AnyStage, spec: Spec, facts: Facts) -> dict[str, Any]:
    """Digests of the text a stage reads, how it is read, and what measures a model."""
    if isinstance(stage, CorpusStage):
        return sources_of(name, stage, facts)
    if isinstance(stage, TokenizerStage) and stage.file is not None:
        return {"file": facts.files[stage.file]}
    if isinstance(stage, ImportStage):
        return {"folder": facts.imports[name].digest}
    if isinstance(stage, ExampleStage):
        return examples_of(name, stage, facts)
    if isinstance(stage, EvaluateStage):
        return evaluated_by(name, stage, facts)
    known: dict[str, Any] = {}
    if reads_data(stage):
        assert spec.data and facts.text
        known = text_of(spec.data, facts.text.digest)
    if isinstance(stage, PretrainStage):
        known |= measure_of(stage, spec, facts)
        known |= {"weights": weights_of(stage, spec)} if stage.corpus else {}
    return known


def examples_of(name: str, stage: ExampleStage, facts: Facts) -> dict[str, Any]:
    """The data sets of an alignment, and what else judges answers."""
    known: dict[str, Any] = {"examples": [one.digest for one in facts.examples[name]]}
    if isinstance(stage, PpoStage) and stage.rule is not None:
        file = rule_file(stage)
        known["rule"] = facts.files[file] if file else stage.rule
    return known


def evaluated_by(name: str, stage: EvaluateStage, facts: Facts) -> dict[str, Any]:
    """The questions, texts and words that an evaluation measures by."""
    found = facts.evaluations.get(name, {})
    known: dict[str, Any] = {"measured": {place: text.digest for place, text in found.items()}}
    if stage.toxicity is not None:
        known["words"] = facts.files[stage.toxicity.words]
    return known


def text_of(data: DataConfig, digest: str) -> dict[str, Any]:
    """The text of `data`, without what is held out of it."""
    return {
        "digest": digest,
        "format": data.format,
        "text": data.text,
        "documents": data.documents,
        "encoding": data.encoding,
        "fraction": data.validation.fraction,
    }


def measure_of(stage: PretrainStage, spec: Spec, facts: Facts) -> dict[str, Any]:
    """Held-out shards, if there are such, and how much text measures the model."""
    held_out = facts.held_out if reads_data(stage) else None
    return {
        "held_out": held_out.digest if held_out else "",
        "validation_tokens": validation_tokens(spec),
    }


def inputs_of(name: str, stage: AnyStage, facts: Facts) -> dict[str, Any]:
    """The files that a stage reads, for its manifest: by what they are to it, with digests.

    Not part of its name, in which paths have no place. None for what it has of other stages.
    """
    texts: dict[str, Text | None] = {}
    if isinstance(stage, CorpusStage):
        found = facts.corpora[name]
        texts = {**found.sources, "decontaminate": found.evaluation}
    elif isinstance(stage, EvaluateStage):
        texts = dict(facts.evaluations.get(name, {}))
    elif isinstance(stage, ExampleStage):
        texts = {f"data.{number}": one for number, one in enumerate(facts.examples[name])}
    elif reads_data(stage):
        texts = {"data": facts.text, "validation": facts.held_out}
    return {what: input_of(text) for what, text in texts.items() if text is not None}


def input_of(text: Text) -> dict[str, Any]:
    """One set of files: size, digest, and the files, if there are any."""
    files = [one._asdict() for one in text.files[:MOST_FILES]]
    return {
        "bytes": text.bytes,
        "digest": text.digest,
        "count": len(text.files),
        "files": files,
    }


def validation_tokens(spec: Spec) -> int:
    """Tokens of held-out text that a validation reads, also where the text is a corpus'."""
    return (spec.data.validation if spec.data else ValidationConfig()).tokens


def sources_of(name: str, stage: CorpusStage, facts: Facts) -> dict[str, Any]:
    """What a corpus is made of. Of two copies the earlier source's is kept: their order counts."""
    found = facts.corpora[name]
    known: dict[str, Any] = {
        "sources": {source: text.digest for source, text in found.sources.items()},
        "order": list(found.sources),
    }
    if found.evaluation is not None:
        known["evaluation"] = found.evaluation.digest
    if stage.filter.words is not None:
        known["words"] = facts.files[stage.filter.words.file]
    return known


def weights_of(stage: PretrainStage, spec: Spec) -> dict[str, float]:
    """How the sources of a training's corpus are mixed; empty: all text alike."""
    corpus = spec.stages[stage.corpus] if stage.corpus else None
    return corpus.weights if isinstance(corpus, CorpusStage) else {}


def bytes_of_sources(name: str, facts: Facts) -> dict[str, int]:
    """Size of each source of a corpus stage; nothing for other stages."""
    found = facts.corpora.get(name)
    return {source: text.bytes for source, text in found.sources.items()} if found else {}


def bytes_read(name: str, stage: AnyStage, parents: Mapping[str, Any], facts: Facts) -> int:
    """Size of a stage's text; of a corpus that is not made yet, that of its files.

    `parents` are the plans of the stages it builds on.
    """
    if isinstance(stage, CorpusStage):
        return sum(bytes_of_sources(name, facts).values())
    if isinstance(stage, ExampleStage):
        return sum(one.bytes for one in facts.examples[name])
    if isinstance(stage, EvaluateStage):
        return sum(one.bytes for one in facts.evaluations.get(name, {}).values())
    if reads_data(stage):
        assert facts.text
        return facts.text.bytes
    corpus = parents.get("corpus")
    return corpus.metrics.get("train_bytes", corpus.text_bytes) if corpus else 0
