"""One step of the engine: admit, compute, choose, tell. One thread, nothing of asyncio.

A step computes one token of every text that is being written together with a portion of prompts,
in one pass through the model; see deploy/scheduler.py for which, llm/pool.py for how.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from deploy.choosing import Best, Chooser, Manner, logprobs
from deploy.memory import LineTable
from deploy.prompts import Question
from deploy.protocol import Begun, Event, Job
from deploy.scheduler import Scheduler, Text, Work
from deploy.writing import Tokens, Writing, echo
from llm.pool import Run
from llm.writer import Writer


@dataclass(eq=False)
class Choice:
    """A text that is made for a job."""

    order: "Order"
    question: Question
    text: Text
    answer: Writing
    manner: Manner
    told: list[tuple[float, Best]] = field(default_factory=list)
    """Log-probabilities of the prompt's tokens but the first, where they are asked for."""


class Order:
    """A job that has been understood, and its choices."""

    def __init__(self, job: Job, questions: list[Question], tokens: Tokens) -> None:
        self.job, self.questions = job, questions
        self.begun = False
        self.choices: list[Choice] = []
        for number, question in enumerate(questions):
            leader: Text | None = None
            for index in range(number * job.n, (number + 1) * job.n):
                choice = self._choice(index, question, leader, tokens)
                leader = leader or choice.text
                self.choices.append(choice)

    def _choice(
        self, index: int, question: Question, leader: Text | None, tokens: Tokens
    ) -> Choice:
        sampling = self.job.sampling
        answer = Writing(
            index,
            tokens,
            ends=() if sampling.ignore_end else question.ends,
            limit=question.limit,
            stop=sampling.stop,
            continues=len(question.ids) > question.hidden,
        )
        text = Text(question.ids, leader=leader, anew=self.tells_prompt)
        manner = Manner(sampling, question.never, index, question.limit)
        return Choice(self, question, text, answer, manner)

    @property
    def tells_prompt(self) -> bool:
        """Whether log-probabilities of the prompt are wanted."""
        return self.job.echo and self.job.logprobs is not None

    @property
    def done(self) -> bool:
        """Whether all choices are complete."""
        return all(choice.answer.ended for choice in self.choices)


Told = tuple[Order, Event]

UNTOLD: tuple[None, Best] = (None, [])


class Core:
    """The model, its memory, and the texts that are made with it."""

    def __init__(
        self, writer: Writer, tokens: Tokens, *, slots: int, lines: int, chunk: int
    ) -> None:
        self.writer, self.tokens = writer, tokens
        self.memory = writer.pool(lines)
        self.table = LineTable(lines, writer.config.context)
        self.scheduler = Scheduler(slots, self.table, chunk)
        self.chooser = Chooser()
        self.choices: dict[Text, Choice] = {}

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.choices

    def add(self, order: Order) -> None:
        """It waits for its turn."""
        self.choices |= {choice.text: choice for choice in order.choices}
        self.scheduler.add(choice.text for choice in order.choices)

    def cancel(self, order: Order) -> None:
        """Nobody wants it any more."""
        for choice in order.choices:
            self._remove(choice)

    def abandon(self) -> list[Order]:
        """After a failure: gives up what is running, trusts nothing that is in memory."""
        running = {self.choices[text].order: None for text in self.scheduler.running}
        for order in running:
            self.cancel(order)
        self.table.forget()
        self.memory.memory.zero_()
        self.chooser = Chooser()
        return list(running)

    def step(self) -> list[Told]:
        """Goes on with all texts by a step; what has happened."""
        told = self._admit()
        work = self.scheduler.work()
        if not work.writing and not work.reading:
            return told
        x = self._compute(work)
        served = self.scheduler.computed(work)
        self._tell_prompts(work, x)
        begun = self._have_read(work, served)
        for _, choice in begun:
            told += self._begin(choice)
        writing = [(row, self.choices[text]) for row, text in enumerate(work.writing)]
        going_on = [(row, choice) for row, choice in writing + begun if not choice.answer.ended]
        return told + self._choose(x, going_on)

    def _have_read(self, work: Work, served: list[Text]) -> list[tuple[int, Choice]]:
        """Choices whose prompts are now complete, with the rows of their last tokens."""
        begun = []
        for (text, _), end in zip(work.reading, ends(work), strict=True):
            if not text.reading:
                begun.append((end - 1, self.choices[text]))
                begun += [(end - 1, self._serve(other)) for other in served if other.leader is text]
        return begun

    def _admit(self) -> list[Told]:
        """Who now has a place."""
        admitted, copies = self.scheduler.admit()
        for copy in copies:
            self.memory.copy(*copy)
        fresh: dict[Order, int] = {}
        for text in admitted:
            order = self.choices[text].order
            first = (self.choices[text].answer.index % order.job.n) == 0
            if not order.begun:
                fresh[order] = fresh.get(order, 0) + (text.cached if first else 0)
        told: list[Told] = []
        for order, cached in fresh.items():
            order.begun = True
            prompt_tokens = sum(len(question.ids) for question in order.questions)
            dropped = sum(question.dropped for question in order.questions)
            told.append((order, Begun(prompt_tokens, cached, dropped, self.table.usage)))
        return told

    def _compute(self, work: Work) -> Tensor:
        """The residual stream behind every new token: (N, D)."""
        ids = [text.tokens[-1] for text in work.writing]
        for text, count in work.reading:
            ids += text.prompt[text.read : text.read + count]
        writing = [(text.line, text.read) for text in work.writing]
        reading = [Run(text.line, text.read, count) for text, count in work.reading]
        places = self.memory.expect(writing, reading)
        return self.writer.features(torch.tensor(ids).to(places.device), places, self.memory)

    def _serve(self, text: Text) -> Choice:
        """Another text has read its prompt for it."""
        assert text.leader is not None
        self.memory.copy(text.leader.line, text.line, len(text.prompt))
        choice = self.choices[text]
        choice.told = self.choices[text.leader].told
        text.leader = None
        return choice

    def _tell_prompts(self, work: Work, x: Tensor) -> None:
        """Notes log-probabilities of the tokens behind those just read, where that is wanted."""
        for (text, count), end in zip(work.reading, ends(work), strict=True):
            choice = self.choices[text]
            following = text.prompt[text.read - count + 1 : text.read + 1]
            if choice.order.tells_prompt and following:
                begin = end - count
                most = choice.order.job.logprobs or 0
                choice.told += logprobs(
                    self.writer.logits(x[begin : begin + len(following)]), following, most
                )

    def _begin(self, choice: Choice) -> list[Told]:
        """Its prompt has been read."""
        order, question = choice.order, choice.question
        events: list[Event] = []
        if order.job.echo:
            told = choice.told if order.tells_prompt else None
            index = choice.answer.index
            events.append(echo(index, self.tokens, question.ids, question.hidden, told))
        events += choice.answer.begin()
        return self._happened(choice, events)

    def _choose(self, x: Tensor, rows: list[tuple[int, Choice]]) -> list[Told]:
        """Each text has one more token."""
        if not rows:
            return []
        logits = self.writer.logits(x[[row for row, _ in rows]])
        choices = [choice for _, choice in rows]
        written = [len(choice.text.tokens) for choice in choices]
        tokens = self.chooser.choose(logits, [choice.manner for choice in choices], written)
        notes = self._logprobs(logits, choices, tokens)
        told: list[Told] = []
        for choice, token in zip(choices, tokens, strict=True):
            choice.text.tokens.append(token)
            logprob, best = notes.get(choice, UNTOLD)
            told += self._happened(choice, choice.answer.add(token, logprob, best))
        return told

    def _logprobs(
        self, logits: Tensor, choices: list[Choice], tokens: list[int]
    ) -> dict[Choice, tuple[float, Best]]:
        """Of the tokens of those who want to know."""
        wanted = [(row, c) for row, c in enumerate(choices) if c.order.job.logprobs is not None]
        if not wanted:
            return {}
        rows = [row for row, _ in wanted]
        most = max(choice.order.job.logprobs or 0 for _, choice in wanted)
        notes = logprobs(logits[rows], [tokens[row] for row in rows], most)
        return {
            choice: (own, best[: choice.order.job.logprobs])
            for (_, choice), (own, best) in zip(wanted, notes, strict=True)
        }

    def _happened(self, choice: Choice, events: Iterable[Event]) -> list[Told]:
        """Events of a choice; when it has ended, its place is free."""
        if choice.answer.ended:
            self._remove(choice)
        return [(choice.order, event) for event in events]

    def _remove(self, choice: Choice) -> None:
        self.scheduler.remove(choice.text)
        self.choices.pop(choice.text, None)


def ends(work: Work) -> list[int]:
    """The rows behind those of each portion; rows of writers come first."""
    counts = (portion.tokens for portion in work.reading)
    return list(accumulate(counts, initial=len(work.writing)))[1:]
