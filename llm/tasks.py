"""What a model knows, by questions with known answers: it chooses, completes or writes.

Every way of asking is a pure function of who asks the model (`llm.examinee.Ask`) and of the exam.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from llm.accepted import extracted, same
from llm.chat_artifact import is_chat
from llm.continuations import Manner
from llm.evaluate_config import TaskConfig
from llm.exam import Exam
from llm.examinee import Ask
from llm.found import Found
from llm.intervals import Measure, calibration_bins, calibration_row, share
from llm.likelihood import Likelihood
from llm.questions import SCHEMAS, Question, way_of

LN2 = math.log(2)


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
    return WAYS[way_of(config)](ask, folder, Exam(config, shots, questions, note))


def choice(ask: Ask, folder: Path, exam: Exam) -> Found:
    """Which choice is likeliest, as a whole and per byte."""
    questions = exam.questions
    asked = [exam.request(q, i) for q in questions for i in range(len(q.choices))]
    found = iter(ask("likelihoods", folder, asked))
    scores = [np.array([next(found).logprob for _ in q.choices]) for q in questions]
    right = [float(s.argmax() == q.right) for s, q in zip(scores, questions, strict=True)]
    measures = [share("accuracy", right, exam.note)]
    counts = right
    if any(len(set(sizes(q))) > 1 for q in questions):
        per_byte = [
            float((s / sizes(q)).argmax() == q.right)
            for s, q in zip(scores, questions, strict=True)
        ]
        measures.append(share("accuracy_per_byte", per_byte, exam.note))
        if SCHEMAS[exam.config.schema].per_byte:
            measures.reverse()
            counts = per_byte
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


def cloze(ask: Ask, folder: Path, exam: Exam) -> Found:
    """Whether the answer is the likeliest text, and how likely it is."""
    asked = [exam.request(q, q.right) for q in exam.questions]
    found: list[Likelihood] = ask("likelihoods", folder, asked)
    nats = [-one.logprob for one in found]
    greedy = share("accuracy", [float(one.greedy) for one in found], exam.note)
    if SCHEMAS[exam.config.schema].perplexity:
        measures = [greedy, perplexity_of_answers(nats)]
    else:
        measures = [bits_per_byte_of_answers(nats, exam), greedy]
    examples = [
        {"prompt": q.prompt, "target": q.answer, "logprob": -nat, "right": one.greedy}
        for q, nat, one in zip(exam.questions, nats, found, strict=True)
    ]
    return Found(measures, examples=examples)


def perplexity_of_answers(nats: Sequence[float]) -> Measure:
    """As LAMBADA has it."""
    note = "of an answer, not of a token"
    return Measure(metric="perplexity", unit="perplexity", better="lower", values=nats, note=note)


def bits_per_byte_of_answers(nats: Sequence[float], exam: Exam) -> Measure:
    """Long answers count by their length."""
    return Measure(
        metric="bits_per_byte",
        unit="bits",
        better="lower",
        values=[one / LN2 for one in nats],
        weights=[float(len(q.answer.encode()) or 1) for q in exam.questions],
        note=exam.note,
    )


def write(ask: Ask, folder: Path, exam: Exam) -> Found:
    """Whether the model writes an accepted answer."""
    config, schema = exam.config, SCHEMAS[exam.config.schema]
    asked = [exam.opening(q) for q in exam.questions]
    outputs = ask("write", folder, asked, Manner(config.answer_tokens, config.stop or schema.stop))
    extract = config.extract or schema.extract
    answers = [extracted(one, extract) for one in outputs]
    right = [
        any(same(answer, extracted(one, extract), schema.loose) for one in q.choices)
        for answer, q in zip(answers, exam.questions, strict=True)
    ]
    examples = [
        {"prompt": q.prompt, "output": output, "answer": answer, "target": q.answer, "right": good}
        for q, output, answer, good in zip(exam.questions, outputs, answers, right, strict=True)
    ]
    return Found([share("exact_match", list(map(float, right)), exam.note)], examples=examples)


WAYS = {"choice": choice, "cloze": cloze, "write": write}


def sizes(question: Question) -> np.ndarray:
    """UTF-8 bytes of each choice."""
    return np.array([float(len(one.encode()) or 1) for one in question.choices])
