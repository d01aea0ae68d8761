"""How large a model, how long a training: as much as fits text, time and memory.

The largest depth is taken that can still see 20 tokens a parameter (Hoffmann et al. 2022) in the
time, or the text eight times if that is less: repeated text helps up to a few passes (Muennighoff
et al. 2023). What it costs is worked out as the plan does it (llm/size.py, jobs/estimate.py).
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from cluster.config import ClusterConfig
from jobs import auto
from jobs.estimate import worker_memory
from jobs.found import Text
from jobs.found_rows import RowSet
from jobs.machine import Machine
from jobs.stages import PretrainStage
from llm.config import ModelConfig
from llm.metrics import duration, quantity
from llm.size import active_parameters, flops_per_token

DEPTHS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 28, 32)
TOKENS_PER_PARAMETER = 20
GOOD_PASSES, MOST_PASSES = 8, 40
PARAMETERS_PER_BYTE = 10
"""Of text, at most: more learn it by heart sooner and nothing else."""

STAGE_SECONDS = 25
"""Until a stage's workers are up, and after its last step."""

CORPUS_SPEED = 2e6
"""Bytes of text that a core cleans and compares in a second."""

LEAST_PRETRAIN = 0.4
"""Share of the time; the rest is for learning to answer."""

TINY, BYTES_PER_ENTRY = 20_000, 30
"""Bytes of text, and for each entry of a vocabulary, below which a token is a character: 71 kB of
Chinese give 3,778 entries."""

MEMORY_SHARE = 0.5
DPO_COST = 4 / 3
"""Of a token, in those of pretraining: the reference reads it, too."""


class Cutting(NamedTuple):
    """How text becomes tokens."""

    tokens: float
    """In the text, about."""
    vocab: int
    coverage: float
    characters: bool
    """Whether each is a token."""


@dataclass(frozen=True)
class Sizes:
    """What a spec is to say in numbers, and why."""

    characters: bool
    """Whether a token is a character; the vocabulary is then what occurs."""
    vocab: int
    coverage: float
    context: int
    depth: int
    batch: int
    steps: int
    epochs: int
    """Passes over the conversations."""
    passes: float
    """Over the text."""
    parameters: int
    seconds: float
    """Of the whole run, about."""
    memory: int
    """Bytes of a worker."""
    why: str
    """What bounds the depth."""


def sizes(
    text: Text, sets: Sequence[RowSet], family: str, seconds: float, machine: Machine, corpus: bool
) -> Sizes:
    """The largest model whose training is worth its time."""
    cutting = cut(text, seconds * machine.flops)
    context = context_of(text, sets, cutting.tokens, seconds * machine.flops)
    cleaning = corpus * text.bytes / (CORPUS_SPEED * machine.cores)
    ahead = STAGE_SECONDS * (3 + len(sets) + corpus) + cleaning
    left = max(seconds - ahead, seconds / 2)
    best: Sizes | None = None
    why = "the largest there is"
    for depth in DEPTHS:
        tried = sized(depth, family, text, sets, left, machine, cutting, context)
        if best is not None:
            why = too_large(tried, best, text, left, machine)
            if why:
                break
        best = tried
    assert best is not None
    return replace(best, why=why, seconds=best.seconds + ahead)


def sized(
    depth: int,
    family: str,
    text: Text,
    sets: Sequence[RowSet],
    seconds: float,
    machine: Machine,
    cutting: Cutting,
    context: int,
) -> Sizes:
    """A model of this depth, trained for as long as there is time and text."""
    vocab = cutting.vocab
    model = auto.model(ModelConfig(depth=depth, context=context, family=family))  # type: ignore[arg-type]
    flops = flops_per_token(model, vocab)
    per_second = machine.flops / flops
    in_text = max(1.0, cutting.tokens)
    epochs = epochs_of(sets, vocab, text, seconds * per_second)
    answering = tokens_to_answer(sets, vocab, text, epochs) / per_second
    time = max(seconds - answering, LEAST_PRETRAIN * seconds)
    tokens = min(time * per_second, MOST_PASSES * in_text)
    stage = PretrainStage(
        kind="pretrain",
        tokenizer="tokenizer",
        model=model,
        tokens=max(round(tokens), 64 * context),
    )
    told = auto.pretrain(stage, vocab, machine.workers)
    told = auto.pretrain(
        replace(stage, batch=max(told.batch, machine.workers)), vocab, machine.workers
    )
    machines = ClusterConfig(workers=machine.workers, gpus_per_worker=1 if machine.gpus else 0)
    memory = worker_memory(told, model, vocab, machines, machine.instructions)
    return Sizes(
        characters=cutting.characters,
        vocab=vocab,
        coverage=cutting.coverage,
        context=context,
        depth=depth,
        batch=told.batch,
        steps=told.steps,
        epochs=epochs,
        passes=told.tokens / in_text,
        parameters=active_parameters(model, vocab),
        seconds=told.tokens / per_second + answering,
        memory=sum(memory.values()),
        why="",
    )


def too_large(tried: Sizes, best: Sizes, text: Text, seconds: float, machine: Machine) -> str:
    """Why a deeper model is not worth it, or empty if it is."""
    count = quantity(tried.parameters)
    if tried.memory * machine.workers > MEMORY_SHARE * machine.memory:
        return f"memory: depth {tried.depth} takes more than half of it"
    if tried.parameters > PARAMETERS_PER_BYTE * text.bytes:
        return f"the text: {count} parameters would know it by heart"
    seen = tried.batch * tried.steps * tried.context
    if tried.passes < GOOD_PASSES and seen < TOKENS_PER_PARAMETER * tried.parameters:
        seen_each = f"{seen / tried.parameters:.2g} tokens a parameter"
        return f"time: depth {tried.depth} would see {seen_each} in {duration(seconds)}"
    return ""


# -- tokens ----------------------------------------------------------------------------------------


def cut(text: Text, flops: float) -> Cutting:
    """The vocabulary that suits a text and the time.

    About 2.5 tokens for the root of a byte (4,096 of 2.4 MB), as many as the time pays for, and
    room for the characters that occur.
    """
    most = 4096 if flops < 2e14 else 8192 if flops < 1e16 else 16384 if flops < 1e18 else 32768
    wide = is_wide(text.sample)
    usual = 2.5 * math.sqrt(text.bytes) * (1.5 if wide else 1)
    vocab = max(512, min(most * (2 if wide else 1), 2 ** round(math.log2(usual))))
    for coverage in COVERAGES:
        needed = room_for(characters_for(text.sample, coverage))
        if needed <= vocab:
            break
    vocab = max(vocab, needed)
    if text.bytes < max(TINY, BYTES_PER_ENTRY * vocab):
        kinds = len(set("".join(text.sample)))
        return Cutting(text.bytes / bytes_per_character(text.sample), kinds + 16, 1.0, True)
    return Cutting(text.bytes / bytes_per_token(text.sample, vocab), vocab, coverage, False)


COVERAGES = (0.9995, 0.998, 0.995, 0.99, 0.98)
"""Shares of the characters that get a token of their own; the others are spelt in bytes."""


def room_for(characters: int) -> int:
    """A vocabulary with so many characters, the bytes, and longer tokens as well."""
    return 256 * math.ceil((300 + 1.4 * characters) / 256)


def characters_for(sample: Iterable[str], coverage: float) -> int:
    """How many different characters make that share of all."""
    counts = Counter("".join(sample))
    wanted, seen = coverage * sum(counts.values()), 0
    for number, (_, count) in enumerate(counts.most_common(), start=1):
        seen += count
        if seen >= wanted:
            return number
    return len(counts)


def bytes_per_character(sample: Sequence[str]) -> float:
    """Of UTF-8: 1 in English, 3 in Chinese."""
    return sum(len(text.encode()) for text in sample) / max(1, sum(map(len, sample)))


def is_wide(sample: Sequence[str]) -> bool:
    """Whether most characters take three bytes, as Chinese and Japanese ones do."""
    return bytes_per_character(sample) > 2.2


def bytes_per_token(sample: Sequence[str], vocab: int) -> float:
    """As measured: 1.8, 2.7, 3.4 of English with 512, 2,048, 4,096; 4.0 of Chinese with 6,144."""
    if is_wide(sample):
        return 4.0 + 0.5 * math.log2(vocab / 6144)
    return min(4.6, max(1.5, 3.3 + 0.55 * math.log2(vocab / 4096)))


CONTEXTS = (64, 128, 256, 512, 1024)


def context_of(text: Text, sets: Sequence[RowSet], tokens: float, flops: float) -> int:
    """Room for nine in ten conversations; of text what the time allows to look back."""
    most = 256 if flops < 1e15 else 512 if flops < 1e18 else 1024
    if sets:
        long = max(one.long for one in sets) / bytes_per_token(text.sample, 4096) + 16
        return next((one for one in CONTEXTS[1:] if one >= long), 1024 if most > 512 else 512)
    return next((one for one in reversed(CONTEXTS) if one <= most and one * 400 <= tokens), 64)


def epochs_of(sets: Sequence[RowSet], vocab: int, text: Text, tokens: float) -> int:
    """Three passes over the conversations, fewer where they take more than a third of the time."""
    for epochs in (3, 2):
        if tokens_to_answer(sets, vocab, text, epochs) <= tokens / 3:
            return epochs
    return 1


def tokens_to_answer(sets: Sequence[RowSet], vocab: int, text: Text, epochs: int) -> float:
    """What learning to answer costs, in tokens of pretraining."""
    each = bytes_per_token(text.sample, vocab)
    talks = sum(one.bytes for one in sets if not one.compares) / each
    compared = sum(one.bytes for one in sets if one.compares) / each
    return 1.15 * talks * epochs + DPO_COST * compared
