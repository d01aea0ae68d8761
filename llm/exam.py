"""Questions as they are put to a model: as plain text behind solved ones, or as turns of a chat."""

from collections.abc import Sequence
from dataclasses import dataclass

from llm.chat import Conversation, Turn
from llm.evaluate_config import TaskConfig
from llm.examinee import Opening, Request
from llm.questions import Question, delimiter_of


@dataclass(frozen=True)
class Exam:
    """A set of questions and how they are asked."""

    config: TaskConfig
    shots: Sequence[Question]
    """Solved ones, which are read first."""
    questions: Sequence[Question]
    note: str = ""
    """What is to be known of the figures."""

    def request(self, question: Question, number: int) -> Request:
        """A choice behind its question."""
        between = delimiter_of(self.config)
        prompt = self._solved() + question.before(number)
        turns = self._conversation(question)
        if turns:
            # the delimiter belongs to plain text: an answer is a turn of its own
            return Request(prompt + between, question.choices[number], turns)
        return Request(prompt, between + question.choices[number])

    def opening(self, question: Question) -> Opening:
        """A question to be answered; the space before an answer is the model's to write."""
        prompt = self._solved() + question.prompt + delimiter_of(self.config).rstrip(" ")
        return Opening(prompt, self._conversation(question))

    def _solved(self) -> str:
        between = delimiter_of(self.config)
        return "".join(f"{q.before(q.right)}{between}{q.answer}\n\n" for q in self.shots)

    def _conversation(self, question: Question) -> Conversation:
        """Solved questions as earlier turns, then the question; empty if it is plain text."""
        if not self.config.chat:
            return ()
        turns: list[Turn] = []
        for shot in self.shots:
            turns += [*asked_by(shot), Turn("assistant", shot.answer)]
        turns += asked_by(question)
        begins = bool(turns) and turns[0].role == "system"
        system = [] if begins or not self.config.system else [Turn("system", self.config.system)]
        return (*system, *turns)


def asked_by(question: Question) -> Conversation:
    """A question as turns."""
    return question.turns or (Turn("user", question.prompt),)
