"""A backend without a model: it says what a test wants, when the test wants it.

    stub = Stub()                       # answers at once: words drawn from prompt, seed, choice
    stub.answer = "Hello **there**."    # always says that, in every choice; a tuple: one each
    stub.refuse = Refused(429, "queue_full", "...")     # refuses from now on (None: no more)
    stub.fail_after = 3                  # breaks in the middle, after three pieces
    stub.pace = 0.02                     # seconds between pieces, for eyes and load tests
    stub.gate.shut(); stub.gate.let(2)   # two pieces pass, then it waits; stub.gate.open()
    stub.given_up.get(timeout=5)         # id of a job whose iterator was closed before its end
    stub.came.get(timeout=5)             # id of a job that has come
    stub.jobs                            # all jobs so far

A token is a word with the blanks behind it; tokens that are given as numbers read "t17 ". What is
told of log-probabilities is made up and always the same. All switches may be turned from another
thread than that of the event loop.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from queue import SimpleQueue
from random import Random

from deploy.protocol import (
    Begun,
    Ended,
    Event,
    Failed,
    Job,
    ModelCard,
    Piece,
    Prompt,
    Refused,
    TokenLogprob,
)
from llm.chat import Turn

WORDS = ["all", "the", "king's", "horses", "and", "men", "你好", "世界", "égg", "🥚", "fall"]

CHAT = ModelCard(
    id="humpty-chat",
    artifact="a1b2c3",
    created=1_760_000_000,
    context=256,
    chat=True,
    vocab_size=4096,
)
BASE = ModelCard(
    id="humpty-base",
    artifact="d4e5f6",
    created=1_750_000_000,
    context=256,
    chat=False,
    vocab_size=4096,
)


class Gate:
    """Lets pieces pass, all or so many; opened and shut by the test, from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.allowed: float = float("inf")
        self.waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        self.let(float("inf"))

    def shut(self) -> None:
        with self.lock:
            self.allowed = 0

    def let(self, count: float) -> None:
        """Lets `count` more pass."""
        with self.lock:
            self.allowed += count
            waiting, self.waiting = self.waiting, []
        for loop, event in waiting:
            loop.call_soon_threadsafe(event.set)

    async def pass_through(self) -> None:
        while True:
            with self.lock:
                if self.allowed >= 1:
                    self.allowed -= 1
                    return
                event = asyncio.Event()
                self.waiting.append((asyncio.get_running_loop(), event))
            await event.wait()


class Stub:
    """Implements `deploy.protocol.Backend`."""

    def __init__(self, *cards: ModelCard) -> None:
        self.cards = {card.id: card for card in cards or (CHAT, BASE)}
        self.answer: str | tuple[str, ...] | None = None
        self.refuse: Refused | None = None
        self.fail_after: int | None = None
        self.pace = 0.0
        self.gate = Gate()
        self.jobs: list[Job] = []
        self.running = 0
        self.came: SimpleQueue[str] = SimpleQueue()
        self.given_up: SimpleQueue[str] = SimpleQueue()

    def models(self) -> Mapping[str, ModelCard]:
        return self.cards

    async def generate(self, model: str, job: Job) -> AsyncIterator[Event]:
        self.jobs.append(job)
        self.came.put(job.id)
        self.running += 1
        open, pieces = job.n * len(job.prompts), 0
        try:
            for event in self.events(self.cards[model], job):
                if isinstance(event, Piece):
                    if pieces == self.fail_after:
                        open = 0
                        yield Failed("the engine broke")
                        return
                    await self.gate.pass_through()
                    await asyncio.sleep(self.pace)
                    pieces += 1
                open -= isinstance(event, Ended)
                yield event
        finally:
            self.running -= 1
            if open and not isinstance(event, Refused):
                self.given_up.put(job.id)

    def events(self, card: ModelCard, job: Job) -> Iterator[Event]:
        """Everything that happens to a job when nothing goes wrong, or why it is refused."""
        if refused := self.refuse or refusal(card, job):
            yield refused
            return
        auto = job.truncation == "auto"
        shortened = [shorten(p, card.context) if auto else (p, 0) for p in job.prompts]
        longest = max(len(tokens_of(prompt)) for prompt, _ in shortened)
        wanted = job.sampling.max_tokens
        if longest + (1 if wanted is None else wanted) > card.context:
            message = f"the prompt has {longest} tokens and the context {card.context}"
            param = "messages" if is_conversation(job.prompts[0]) else "prompt"
            yield Refused(400, "context_length_exceeded", message, param)
            return
        count = sum(len(tokens_of(prompt)) for prompt, _ in shortened)
        yield Begun(count, count // 2, sum(dropped for _, dropped in shortened), 0.25)
        yield from interleaved(
            [
                self.choice(p * job.n + i, i, prompt, job, card.context - longest)
                for p, (prompt, _) in enumerate(shortened)
                for i in range(job.n)
            ]
        )

    def choice(self, index: int, i: int, prompt: Prompt, job: Job, room: int) -> Iterator[Event]:
        """One choice; echoed tokens count as none that were written."""
        sampling = job.sampling
        if job.echo:
            echoed = tokens_of(prompt)
            yield Piece(index, "".join(echoed), 0, told(echoed, job, first=True))
        seed = sampling.seed if sampling.temperature else 0
        draw = Random(f"{seed}/{i}/{' '.join(tokens_of(prompt))}")
        answer = self.answer[i] if isinstance(self.answer, tuple) else self.answer
        text = answer or " ".join(draw.choice(WORDS) for _ in range(draw.randint(8, 16))) + "."
        ends = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
        tokens = words_of(text[: min(ends)] if ends else text)
        most = room if sampling.max_tokens is None else sampling.max_tokens
        for token in tokens[:most]:
            yield Piece(index, token, 1, told([token], job))
        yield Ended(index, "length" if len(tokens) > most else "stop")


def refusal(card: ModelCard, job: Job) -> Refused | None:
    if not card.chat and any(map(is_conversation, job.prompts)):
        message = f"{card.id} only continues texts"
        return Refused(400, "model_has_no_chat_template", message, "messages")
    return None


def interleaved(choices: list[Iterator[Event]]) -> Iterator[Event]:
    """One event of each in turn, as choices that are written side by side."""
    while choices:
        for choice in list(choices):
            event = next(choice, None)
            if event is None:
                choices.remove(choice)
            else:
                yield event


def is_conversation(prompt: Prompt) -> bool:
    return any(isinstance(part, Turn) for part in prompt)


def words_of(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def tokens_of(prompt: Prompt) -> list[str]:
    if isinstance(prompt, str):
        return words_of(prompt)
    return [word for part in prompt for word in words_of_part(part)]


def words_of_part(part: int | Turn) -> list[str]:
    if isinstance(part, int):
        return [f"t{part} "]
    return [f"<{part.role}>", *words_of(part.text)]


def shorten(prompt: Prompt, context: int) -> tuple[Prompt, int]:
    """The oldest turns fall out until half of the context is free; system and last turn stay."""
    turns = [part for part in prompt if isinstance(part, Turn)]
    if not turns:
        return prompt, 0
    first = int(turns[0].role == "system")
    dropped = 0
    while len(turns) > first + 1 and len(tokens_of(tuple(turns))) > context // 2:
        del turns[first]
        dropped += 1
    return tuple(turns), dropped


def told(tokens: list[str], job: Job, *, first: bool = False) -> tuple[TokenLogprob, ...] | None:
    """Made-up log-probabilities; nothing is known of the first token of a text."""
    if job.logprobs is None:
        return None
    every = [made_up(token, job.logprobs) for token in tokens]
    if first:
        every[0] = TokenLogprob(tokens[0], tokens[0].encode(), None)
    return tuple(every)


def made_up(token: str, count: int) -> TokenLogprob:
    """A tenth for each character; its rivals are alt0, alt1 ..."""
    names = sorted({token, *(f"alt{k} " for k in range(count))}, key=len)[:count]
    top = tuple((name, name.encode(), -len(name) / 10) for name in names)
    return TokenLogprob(token, token.encode(), -len(token) / 10, top)
