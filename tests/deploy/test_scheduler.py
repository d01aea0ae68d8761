"""Slots and lines are handed out once, in order, and everything ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.memory import LEAST_PREFIX, LineTable
from deploy.scheduler import READERS, Scheduler, Text, shared_out

CONTEXT = 40


class Play:
    """Drives a scheduler without a model, and checks it at every step."""

    def __init__(self, slots: int, lines: int, chunk: int) -> None:
        self.scheduler = Scheduler(slots, LineTable(lines, CONTEXT), chunk)
        self.content: list[list[int]] = [[] for _ in range(lines)]
        self.asked: list[Text] = []
        self.wanted: dict[Text, int] = {}
        self.admitted: list[Text] = []

    def ask(self, prompt: list[int], count: int, n: int, anew: bool) -> list[Text]:
        leader = Text(prompt, anew=anew)
        texts = [leader, *(Text(prompt, leader=leader, anew=anew) for _ in range(n - 1))]
        self.asked += texts
        self.wanted |= dict.fromkeys(texts, count)
        self.scheduler.add(texts)
        return texts

    def step(self) -> None:
        scheduler = self.scheduler
        admitted, copies = scheduler.admit()
        self.admitted += admitted
        for source, target, tokens in copies:
            self.content[target] = self.content[source][:tokens]
        for text in admitted:
            self.content[text.line] = self.content[text.line][: text.read]
            assert self.content[text.line] == list(text.prompt[: text.read])
            assert text.read < len(text.prompt) and (not text.anew or text.read == 0)
        self.check()
        work = scheduler.work()
        assert sum(portion.tokens for portion in work.reading) <= scheduler.chunk
        assert len(work.reading) <= READERS
        for text in work.writing:
            self.content[text.line].append(text.tokens[-1])
        for text, tokens in work.reading:
            self.content[text.line] += text.prompt[text.read : text.read + tokens]
        served = scheduler.computed(work)
        for text in served:
            assert text.leader is not None
            assert self.content[text.leader.line] == list(text.prompt)
            self.content[text.line] = list(text.prompt)
            text.leader = None
        for text in list(scheduler.running):
            if not text.reading:
                text.tokens.append(len(text.tokens))
                if len(text.tokens) >= self.wanted[text]:
                    scheduler.remove(text)

    def check(self) -> None:
        scheduler, lines = self.scheduler, self.scheduler.lines.lines
        taken = [text.line for text in scheduler.running]
        assert len(set(taken)) == len(taken) <= scheduler.slots
        assert {index for index, line in enumerate(lines) if line.used} == set(taken)
        for line, content in zip(lines, self.content, strict=True):
            assert line.tokens[: line.length].tolist() == content[: line.length]
            assert not line.used or line.length == len(content)


ASKED = st.tuples(
    st.lists(st.integers(0, 1), min_size=1, max_size=CONTEXT - 8),
    st.integers(1, 8),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 4),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(
    asked=st.lists(ASKED, min_size=1, max_size=12),
    slots=st.integers(1, 5),
    lines=st.integers(1, 7),
    chunk=st.integers(1, 50),
)
def test_everything_ends_in_order_and_nothing_leaks(
    asked: list, slots: int, lines: int, chunk: int
) -> None:
    play = Play(slots, lines, chunk)
    given_up: list[Text] = []
    for prompt, count, n, anew, steps, cancelled in asked:
        texts = play.ask(prompt, count, n, anew)
        for _ in range(steps):
            play.step()
        if cancelled:
            given_up += [text for text in texts if not text.done]
            for text in texts:
                play.scheduler.remove(text)
    for _ in range(2000):
        if not play.scheduler.running and not play.scheduler.waiting:
            break
        play.step()
    assert all(text.done for text in play.asked)
    for text in play.asked:
        assert text in given_up or len(text.tokens) == play.wanted[text]
    assert play.admitted == [text for text in play.asked if text in play.admitted]
    assert play.scheduler.lines.free == lines


def test_waiting_texts_get_the_first_slot_that_is_free() -> None:
    play = Play(slots=1, lines=2, chunk=50)
    first, second = (play.ask([value] * 9, 3, 1, False)[0] for value in (0, 1))
    for _ in range(3):
        assert second.line < 0
        play.step()
    assert first.done
    play.step()
    assert second.line >= 0


@given(amount=st.integers(0, 200), wanted=st.lists(st.integers(1, 100), max_size=6))
def test_portions_are_as_equal_as_can_be(amount: int, wanted: list[int]) -> None:
    given_out = shared_out(amount, wanted)
    assert sum(given_out) == min(amount, sum(wanted))
    assert all(0 <= got <= want for got, want in zip(given_out, wanted, strict=True))
    hungry = [got for got, want in zip(given_out, wanted, strict=True) if got < want]
    assert not hungry or max(given_out) <= min(hungry) + 1


def test_short_prompts_are_read_at_once_and_long_ones_share_the_rest() -> None:
    assert shared_out(128, [1000, 8, 1000, 20]) == [50, 8, 50, 20]
    assert sum(shared_out(3, [10, 10, 10, 10])) == 3
    assert shared_out(7, [10, 10]) == [4, 3]


# Lines


def filled(table: LineTable, tokens: list[int], prompt: int) -> int:
    """The line of a text that is finished."""
    place = table.take(tokens[:prompt])
    table.grow(place.line, tokens[place.tokens :])
    table.give_back(place.line)
    return place.line


def test_what_goes_on_where_a_text_ended_takes_its_line() -> None:
    table = LineTable(3, CONTEXT)
    line = filled(table, list(range(20)), prompt=12)
    assert table.take([*range(20), 90]) == (line, 20, line)


def test_the_same_prompt_again_reads_only_its_last_token() -> None:
    table = LineTable(3, CONTEXT)
    line = filled(table, list(range(20)), prompt=12)
    assert table.take(list(range(12))) == (line, 11, line)


def test_what_only_begins_alike_is_copied_and_leaves_the_other_remembered() -> None:
    table = LineTable(3, CONTEXT)
    line = filled(table, list(range(20)), prompt=19)
    place = table.take([*range(15), 90])
    assert place.line != line and place[1:] == (15, line)
    assert table.lines[line].length == 20


def test_the_longest_unused_text_is_forgotten_first() -> None:
    table = LineTable(2, CONTEXT)
    first = filled(table, [1] * 9, prompt=9)
    second = filled(table, [2] * 9, prompt=9)
    again = table.take([1] * 9)  # the first is wanted again
    table.give_back(again.line)
    assert again.line == first
    assert table.take([3] * 9).line == second


def test_few_tokens_in_common_are_read_again() -> None:
    table = LineTable(1, CONTEXT)
    filled(table, list(range(20)), prompt=20)
    assert table.take([*range(LEAST_PREFIX - 1), 90]).tokens == 0
    table.give_back(0)
    assert table.usage == 0


def test_a_line_is_taken_once() -> None:
    table = LineTable(1, CONTEXT)
    table.take([1])
    with pytest.raises(AssertionError, match="every line is in use"):
        table.take([2])
