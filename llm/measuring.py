"""What is measured of a model, as pure functions of those who ask it (`llm.examinee.Ask`).

Each returns a `Found`: figures with what they are the mean of, and every item as it went, so that
models can be compared item by item and people can look at what was right and what was wrong.
"""

import math
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llm.associations import sentences
from llm.chat import Conversation, Turn
from llm.chat_artifact import is_chat
from llm.continuations import Manner
from llm.evaluate_config import AssociationConfig, MemorisationConfig, TaskConfig
from llm.examinee import Answered, Ask, Beginning, Opening, Request
from llm.intervals import (
    Measure,
    calibration_bins,
    calibration_row,
    spread,
)
from llm.likelihood import Likelihood
from llm.measured_text import Document
from llm.questions import SCHEMAS, Question, delimiter_of, way_of
from llm.reward_score import Z
from llm.word_list import WordList

LN2 = math.log(2)

Judge = Callable[[Sequence[tuple[Conversation, str, str]]], list[float]]
"""For prompts and two answers each: 1 if the first is better, 0 if the second, 0.5 for a tie."""


@dataclass
class Found:
    """What a measurement found."""

    measures: list[Measure] = field(default_factory=list)
    """The main one first."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Figures that are no means of items, ready to be shown."""
    examples: list[dict[str, Any]] = field(default_factory=list)
    calibration: list[dict[str, float]] = field(default_factory=list)


# -- text ------------------------------------------------------------------------------------------


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


# -- tasks -----------------------------------------------------------------------------------------


def task(
    ask: Ask,
    folder: Path,
    config: TaskConfig,
    shots: Sequence[Question],
    questions: Sequence[Question],
) -> Found:
    """A task as its config says."""
    note = ""
    if config.chat and not is_chat(folder):
        note = "has no chat template, so it read the questions as plain text"
    return WAYS[way_of(config)](ask, folder, config, shots, questions, note)


def choice(
    ask: Ask,
    folder: Path,
    config: TaskConfig,
    shots: Sequence[Question],
    questions: Sequence[Question],
    note: str,
) -> Found:
    """Which choice is likeliest, as a whole and per byte."""
    asked = [requested(config, shots, q, i) for q in questions for i in range(len(q.choices))]
    found = iter(ask("likelihoods", folder, asked))
    scores = [np.array([next(found).logprob for _ in q.choices]) for q in questions]
    right = [float(s.argmax() == q.right) for s, q in zip(scores, questions, strict=True)]
    per_byte = [
        float((s / sizes(q)).argmax() == q.right) for s, q in zip(scores, questions, strict=True)
    ]
    measures = [share("accuracy", right, note)]
    if any(len(set(sizes(q))) > 1 for q in questions):
        measures.append(share("accuracy_per_byte", per_byte, note))
        if SCHEMAS[config.schema].per_byte:
            measures.reverse()
    counts = per_byte if measures[0].metric == "accuracy_per_byte" else right
    sure = np.array([1 / np.exp(s - s.max()).sum() for s in scores])
    return Found(
        measures,
        [calibration_row(sure, np.array(right))],
        [
            {
                "prompt": q.prompt or q.before(q.right),
                "choices": list(q.choices),
                "logprobs": s.round(4).tolist(),
                "target": q.right,
                "right": bool(good),
            }
            for q, s, good in zip(questions, scores, counts, strict=True)
        ],
        calibration_bins(sure, np.array(right)),
    )


def cloze(
    ask: Ask,
    folder: Path,
    config: TaskConfig,
    shots: Sequence[Question],
    questions: Sequence[Question],
    note: str,
) -> Found:
    """Whether the answer is the likeliest text, and how likely it is."""
    asked = [requested(config, shots, q, q.right) for q in questions]
    found: list[Likelihood] = ask("likelihoods", folder, asked)
    nats = [-one.logprob for one in found]
    measures = [share("accuracy", [float(one.greedy) for one in found], note)]
    if SCHEMAS[config.schema].perplexity:
        words = "of an answer, not of a token"
        measures.append(
            Measure(metric="perplexity", unit="perplexity", better="lower", values=nats, note=words)
        )
    else:
        bits = [one / LN2 for one in nats]
        size = [float(len(q.answer.encode()) or 1) for q in questions]
        measures.insert(
            0,
            Measure(
                metric="bits_per_byte",
                unit="bits",
                better="lower",
                values=bits,
                weights=size,
                note=note,
            ),
        )
    examples = [
        {"prompt": q.prompt, "target": q.answer, "logprob": -nat, "right": one.greedy}
        for q, nat, one in zip(questions, nats, found, strict=True)
    ]
    return Found(measures, examples=examples)


def write(
    ask: Ask,
    folder: Path,
    config: TaskConfig,
    shots: Sequence[Question],
    questions: Sequence[Question],
    note: str,
) -> Found:
    """Whether the model writes an accepted answer."""
    schema = SCHEMAS[config.schema]
    asked = [opened(config, shots, q) for q in questions]
    outputs = ask("write", folder, asked, Manner(config.answer_tokens, config.stop or schema.stop))
    extract = config.extract or schema.extract
    answers = [extracted(one, extract) for one in outputs]
    right = [
        any(same(answer, extracted(one, extract), schema.loose) for one in q.choices)
        for answer, q in zip(answers, questions, strict=True)
    ]
    examples = [
        {"prompt": q.prompt, "output": output, "answer": answer, "target": q.answer, "right": good}
        for q, output, answer, good in zip(questions, outputs, answers, right, strict=True)
    ]
    return Found([share("exact_match", list(map(float, right)), note)], examples=examples)


WAYS = {"choice": choice, "cloze": cloze, "write": write}


def share(metric: str, values: list[float], note: str = "") -> Measure:
    """How many of all."""
    return Measure(metric=metric, unit="share", better="higher", values=values, note=note)


def sizes(question: Question) -> np.ndarray:
    """UTF-8 bytes of each choice."""
    return np.array([float(len(one.encode()) or 1) for one in question.choices])


def requested(
    config: TaskConfig, shots: Sequence[Question], question: Question, number: int
) -> Request:
    """A choice behind its question, which stands behind solved ones."""
    between = delimiter_of(config)
    prompt = solved(config, shots) + question.before(number)
    turns = conversation(config, shots, question) if config.chat else ()
    if turns:
        # the delimiter belongs to plain text: an answer is a turn of its own
        return Request(prompt + between, question.choices[number], turns)
    return Request(prompt, between + question.choices[number])


def opened(config: TaskConfig, shots: Sequence[Question], question: Question) -> Opening:
    """A question that is to be answered; the space before an answer is the model's to write."""
    prompt = solved(config, shots) + question.prompt + delimiter_of(config).rstrip(" ")
    return Opening(prompt, conversation(config, shots, question) if config.chat else ())


def solved(config: TaskConfig, shots: Sequence[Question]) -> str:
    """Questions with their answers."""
    between = delimiter_of(config)
    return "".join(f"{q.before(q.right)}{between}{q.answer}\n\n" for q in shots)


def conversation(config: TaskConfig, shots: Sequence[Question], question: Question) -> Conversation:
    """Solved questions as earlier turns, then the question."""
    turns: list[Turn] = []
    for shot in shots:
        turns += [*asked_by(shot), Turn("assistant", shot.answer)]
    turns += asked_by(question)
    begins = bool(turns) and turns[0].role == "system"
    system = [] if begins or not config.system else [Turn("system", config.system)]
    return (*system, *turns)


def asked_by(question: Question) -> Conversation:
    """A question as turns."""
    return question.turns or (Turn("user", question.prompt),)


def extracted(text: str, pattern: str) -> str:
    """The first group of a pattern's first match; the whole text where there is none."""
    match = re.search(pattern, text) if pattern else None
    return match[1] if match and match.groups() and match[1] is not None else text


ARTICLES = re.compile(r"\b(a|an|the)\b")


def same(answer: str, accepted: str, loose: bool) -> bool:
    """Whether two answers are one: numbers by their value, however they are written."""
    numbers = [number(one) for one in (answer, accepted)]
    if None not in numbers:
        return numbers[0] == numbers[1]
    return normal(answer, loose) == normal(accepted, loose)


def number(text: str) -> float | None:
    """`$1,234.50` as a number."""
    plain = text.strip().strip("$€£¥").replace(",", "").rstrip(".")
    return float(plain) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", plain) else None


def normal(text: str, loose: bool) -> str:
    """A text without white space around it; loose: no case, signs or articles either."""
    if not loose:
        return text.strip()
    plain = text.casefold().translate(str.maketrans("", "", string.punctuation))
    return " ".join(ARTICLES.sub(" ", plain).split())


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
