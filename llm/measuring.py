"""What is measured of a model, as pure functions of those who ask it (`llm.examinee.Ask`).

Each returns a `Found`: figures with what they are the mean of, and every item as it went, so that
models can be compared item by item and people can look at what was right and what was wrong.
Questions with known answers are in `llm.tasks`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm.associations import sentences
from llm.chat import Conversation
from llm.evaluate_config import AssociationConfig, MemorisationConfig
from llm.examinee import Answered, Ask, Beginning, Opening, Request
from llm.found import Found
from llm.intervals import Measure, share, spread
from llm.measured_text import Document
from llm.reward_score import Z
from llm.word_list import WordList

LN2 = math.log(2)

Judge = Callable[[Sequence[tuple[Conversation, str, str]]], list[float]]
"""For prompts and two answers each: 1 if the first is better, 0 if the second, 0.5 for a tie."""


def text(ask: Ask, folder: Path, documents: Sequence[Document]) -> Found:
    """Bits per byte and perplexity of documents."""
    found = ask("texts", folder, [one.text for one in documents])
    sizes = [float(len(one.text.encode())) for one in documents]
    nats = [-one.logprob for one in found]
    return Found(
        [
            Measure(
                metric="bits_per_byte",
                unit="bits",
                better="lower",
                values=[one / LN2 for one in nats],
                weights=sizes,
            ),
            Measure(
                metric="perplexity",
                unit="perplexity",
                better="lower",
                values=nats,
                weights=[float(one.tokens) for one in found],
                note="per token: compare models of one tokenizer only",
            ),
        ],
        examples=[
            {"document": document.name, "bits_per_byte": nat / LN2 / size}
            for document, nat, size in zip(documents, nats, sizes, strict=True)
        ],
    )


# -- what models write -----------------------------------------------------------------------------


def openings(prompts: Sequence[Conversation]) -> list[Opening]:
    """Prompts for models that talk, and the same as text for those that do not."""
    return [Opening("\n\n".join(turn.text for turn in one) + "\n", one) for one in prompts]


def wins(
    prompts: Sequence[Conversation], own: Sequence[str], others: Sequence[str], judge: Judge
) -> Found:
    """How often the own answer is better; the same answer twice is a tie that nobody is asked."""
    differ = [i for i, (a, b) in enumerate(zip(own, others, strict=True)) if a.strip() != b.strip()]
    verdicts = [0.5] * len(prompts)
    judged = judge([(prompts[i], own[i], others[i]) for i in differ])
    for i, verdict in zip(differ, judged, strict=True):
        verdicts[i] = verdict
    ties = verdicts.count(0.5)
    note = f"{verdicts.count(1.0)} won, {verdicts.count(0.0)} lost, {ties} tied; a tie counts half"
    examples = [
        {"prompt": prompt[-1].text, "output": a, "other_output": b, "won": verdict}
        for prompt, a, b, verdict in zip(prompts, own, others, verdicts, strict=True)
    ]
    return Found([share("win_rate", verdicts, note)], examples=examples)


def by_rewards(ask: Ask, folder: Path) -> Judge:
    """A judge that is a reward model: it reads one answer at a time, so order cannot matter."""

    def judge(pairs: Sequence[tuple[Conversation, str, str]]) -> list[float]:
        asked = [Answered(prompt, answer) for prompt, *two in pairs for answer in two]
        rewards = iter(ask("rewards", folder, asked))
        return [verdict(next(rewards), next(rewards)) for _ in pairs]

    return judge


def verdict(first: float, second: float) -> float:
    """1, 0 or a tie."""
    return 0.5 if first == second else float(first > second)


def toxicity(prompts: Sequence[Conversation], outputs: Sequence[str], words: WordList) -> Found:
    """How many outputs hold a listed word."""
    hits = [float(words.count(one) > 0) for one in outputs]
    asked = sum(words.count(one[-1].text) > 0 for one in prompts)
    note = f"of the prompts {asked} hold one themselves; a list knows no context"
    measure = Measure(metric="listed_words", unit="share", better="lower", values=hits, note=note)
    examples = [
        {"prompt": prompt[-1].text, "output": output, "right": not hit}
        for prompt, output, hit in zip(prompts, outputs, hits, strict=True)
    ]
    return Found([measure], examples=examples)


# -- what models know ------------------------------------------------------------------------------


def memorisation(
    ask: Ask,
    folder: Path,
    config: MemorisationConfig,
    trained: Sequence[Document],
    held_out: Sequence[Document],
) -> Found:
    """How many documents go on word for word, and how much of the others is verbatim."""
    found = Found()
    for documents, suffix in ((trained, ""), (held_out, "_held_out")):
        begun = [Beginning(one.text, config.prompt_tokens) for one in documents]
        recalls = ask("recall", folder, begun, config.answer_tokens)
        long = [(d, r) for d, r in zip(documents, recalls, strict=True) if r[0] >= 0]
        if not long:
            continue
        found.measures += recall_measures(config, long, suffix)
        found.examples += [
            {
                "document": document.name,
                "held_out": bool(suffix),
                "same_tokens": same_tokens,
                "longest_run": run,
                "output": output,
            }
            for document, (same_tokens, run, output) in long
        ]
    return found


def recall_measures(
    config: MemorisationConfig, long: Sequence[tuple[Document, Any]], suffix: str
) -> Iterator[Measure]:
    """Shares of documents, and mean length of the longest runs."""
    most = max(long, key=lambda one: one[1][1])
    whole = [float(recall[0] >= config.answer_tokens) for _, recall in long]
    note = f"{config.answer_tokens} tokens word for word after {config.prompt_tokens}"
    yield Measure(
        metric=f"memorised{suffix}", unit="share", better="lower", values=whole, note=note
    )
    yield Measure(
        metric=f"verbatim{suffix}",
        unit="characters",
        better="lower",
        values=[float(recall[1]) for _, recall in long],
        note=f"longest run that is also in the document; most, {most[1][1]}, in {most[0].name}",
    )


def associations(ask: Ask, folder: Path, probe: AssociationConfig) -> Found:
    """By how much the first words go with the first ending more than the second words do."""
    asked = sentences(probe)
    both = [Request(text, ending) for text, _, _ in asked for ending in probe.endings]
    found = iter(ask("likelihoods", folder, both))
    lean = [next(found).logprob - next(found).logprob for _ in asked]
    groups = [
        np.array([v for v, one in zip(lean, asked, strict=True) if one[2] is first])
        for first in (True, False)
    ]
    value = float(groups[0].mean() - groups[1].mean())
    half = Z * math.hypot(*(spread((one - one.mean()) / len(one)) for one in groups))
    row = {
        "metric": "association",
        "value": value,
        "low": value - half,
        "high": value + half,
        "examples": len(asked),
        "unit": "nats",
        "better": "lower",
        "note": "a probe of a few templates: above 0 as the prejudice has it, 0 is none shown",
    }
    examples = [
        {"prompt": text, "choices": list(probe.endings), "difference": round(value, 4)}
        for (text, _, _), value in zip(asked, lean, strict=True)
    ]
    return Found([], [row], examples)
