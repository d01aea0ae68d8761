"""Which texts a step goes on with: plain arithmetic on records, neither torch nor time.

    waiting --admit--> reading its prompt, in portions --> writing, a token per step --> finished
                   or: following another choice of the same prompt, and copied once that is read

First come, first served. A text is admitted when there is a slot and a line of memory for it, and
a line has room for a whole context (deploy/memory.py): an admitted text can always be finished. A
step writes one token of every text that is being written, and reads `chunk` tokens of prompts, in
equal portions of the `READERS` oldest ones: a long prompt holds up neither the writers nor the
short prompts behind it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from deploy.memory import LineTable

READERS = 4
"""Prompts that are read at once; each is an attention call of its own in every layer."""


@dataclass(eq=False)
class Text:
    """A prompt with what is written behind it."""

    prompt: Sequence[int]
    leader: "Text | None" = None
    """Another text of the same prompt, which reads it for both if it is still about to."""
    anew: bool = False
    """Whether all of its prompt must be computed."""
    tokens: list[int] = field(default_factory=list)
    """What was written."""
    line: int = -1
    read: int = 0
    """Tokens of prompt and writing that are in memory."""
    cached: int = 0
    """Tokens of the prompt that were there when it was admitted."""
    done: bool = False

    @property
    def reading(self) -> bool:
        """Whether some of its prompt is not yet in memory."""
        return self.read < len(self.prompt)


class Copy(NamedTuple):
    """The first tokens of one line are to become those of another."""

    source: int
    target: int
    tokens: int


class Portion(NamedTuple):
    """So many next tokens of a prompt."""

    text: Text
    tokens: int


class Work(NamedTuple):
    """What a step computes."""

    writing: list[Text]
    """Each with the token it wrote last; by line."""
    reading: list[Portion]


class Scheduler:
    """Texts that wait and texts that run."""

    def __init__(self, slots: int, lines: LineTable, chunk: int) -> None:
        self.slots, self.lines, self.chunk = slots, lines, chunk
        self.waiting: deque[Text] = deque()
        self.running: list[Text] = []

    def add(self, texts: Iterable[Text]) -> None:
        """They wait, in this order."""
        self.waiting.extend(texts)

    def admit(self) -> tuple[list[Text], list[Copy]]:
        """Who now has a place, and what must be copied for that, in this order."""
        admitted: list[Text] = []
        copies: list[Copy] = []
        while self.waiting and len(self.running) < self.slots and self.lines.free:
            text = self.waiting.popleft()
            led = text.leader is not None and text.leader.line >= 0 and text.leader.reading
            place = self.lines.take(text.prompt, anew=text.anew or led)
            if not led:
                text.leader = None
            text.line, text.read, text.cached = place.line, place.tokens, place.tokens
            if place.source != place.line:
                copies.append(Copy(place.source, place.line, place.tokens))
            self.running.append(text)
            admitted.append(text)
        return admitted, copies

    def work(self) -> Work:
        """What the next step is to compute."""
        writing = [text for text in self.running if not text.reading]
        readers = [t for t in self.running if t.reading and t.leader is None][:READERS]
        wanted = [len(text.prompt) - text.read for text in readers]
        portions = map(Portion, readers, shared_out(self.chunk, wanted))
        return Work(sorted(writing, key=lambda t: t.line), [p for p in portions if p.tokens])

    def computed(self, work: Work) -> list[Text]:
        """Notes what a step has put into memory. Returns the texts whose leader has now read their
        prompt for them; it is to be copied from its line to theirs."""
        for text in work.writing:
            self.lines.grow(text.line, text.tokens[-1:])
            text.read += 1
        for text, count in work.reading:
            self.lines.grow(text.line, text.prompt[text.read : text.read + count])
            text.read += count
        served = [
            t for t in self.running if t.reading and t.leader is not None and not t.leader.reading
        ]
        for text in served:
            self.lines.grow(text.line, text.prompt)
            text.read = len(text.prompt)
        return served

    def remove(self, text: Text) -> None:
        """It is finished or given up, wherever it is; what it has computed stays remembered."""
        if text.done:
            return
        text.done = True
        if text.line < 0:
            self.waiting.remove(text)
            return
        self.running.remove(text)
        self.lines.give_back(text.line)
        for other in self.running:
            if other.leader is text and other.reading:
                other.leader = None  # then it reads for itself


def shared_out(amount: int, wanted: Sequence[int]) -> list[int]:
    """Equal portions for all but those who want less; what cannot be halved goes to the first."""
    given = [0] * len(wanted)
    hungry = sorted(range(len(wanted)), key=lambda i: (wanted[i], -i))
    for position, index in enumerate(hungry):
        given[index] = min(wanted[index], amount // (len(hungry) - position))
        amount -= given[index]
    return given
