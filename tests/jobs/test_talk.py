"""A conversation in the terminal: what was said is remembered, commands begin with a slash."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from jobs.client import ServerError
from jobs.talk import talk
from llm.chat import Conversation, Turn


class Parrot:
    """Answers with what was said last, and keeps all conversations it was asked."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.asked: list[Conversation] = []
        self.error = error

    def __call__(self, conversation: Conversation) -> Iterator[str]:
        self.asked.append(conversation)
        yield "you said "
        if self.error:
            raise self.error
        yield conversation[-1].text


def spoken(lines: str, parrot: Parrot, monkeypatch: pytest.MonkeyPatch, system: str = "") -> str:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    out = io.StringIO()
    talk(parrot, Console(file=out, width=80), system)
    return out.getvalue()


def test_answers_follow_questions_and_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    parrot = Parrot()
    assert spoken("one\n\ntwo\n", parrot, monkeypatch) == "you said one\n\nyou said two\n\n"
    assert parrot.asked[1] == (
        Turn("user", "one"),
        Turn("assistant", "you said one"),
        Turn("user", "two"),
    )


def test_commands_change_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    parrot = Parrot()
    lines = "one\n/new\ntwo\n/system Be brief.\nthree\n/nwe\n/exit\nfour\n"
    written = spoken(lines, parrot, monkeypatch, system="Be kind.")
    assert parrot.asked == [
        (Turn("system", "Be kind."), Turn("user", "one")),
        (Turn("system", "Be kind."), Turn("user", "two")),
        (Turn("system", "Be brief."), Turn("user", "three")),
    ]
    assert "/nwe: no such command; /new begins anew" in written


def test_an_answer_can_be_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    parrot = Parrot(KeyboardInterrupt())
    assert "you said  [broken off]" in spoken("one\ntwo\n", parrot, monkeypatch)
    assert parrot.asked[1][1] == Turn("assistant", "you said ")


def test_what_the_server_refuses_is_shown_and_the_talk_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parrot = Parrot(ServerError("too many requests"))
    assert spoken("one\ntwo\n", parrot, monkeypatch).count("too many requests") == 2
