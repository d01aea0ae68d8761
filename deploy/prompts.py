"""What a job asks becomes tokens that fit into the context, or a refusal that says what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from deploy.protocol import Job, Prompt, Refused
from llm.chat import Conversation, Template
from llm.errors import DataError
from llm.tokenizer import Tokenizer

LEAST_ANSWER = 4
"""`truncation: auto` leaves a quarter of the context for an answer of unstated length."""

AROUND_TURN, AROUND_PROMPT = 2, 2
"""Tokens besides the texts: role and end of each turn, begin and the assistant's role."""


@dataclass
class Unfit(Exception):
    """A prompt that cannot be read, as the caller is told."""

    code: str
    message: str
    param: str

    @property
    def refused(self) -> Refused:
        """The event that says so."""
        return Refused(400, self.code, self.message, self.param)


class Question(NamedTuple):
    """A prompt as tokens, and in which manner it is to be continued."""

    ids: list[int]
    limit: int
    """Tokens that may follow."""
    ends: tuple[int, ...]
    """Tokens that end the text and are not part of it."""
    never: tuple[int, ...]
    hidden: int = 0
    """Tokens at its beginning that the caller did not give, and is not told."""
    dropped: int = 0
    """Oldest turns that were left out."""


class Reader:
    """Turns prompts into tokens; `template` is that of a model which was taught to talk."""

    def __init__(self, tokenizer: Tokenizer, template: Template | None, context: int) -> None:
        self.tokenizer, self.template, self.context = tokenizer, template, context
        # who was taught to talk also ends other texts like answers, and would go on in silence
        self.text_ends = (tokenizer.eos,) if template is None else (tokenizer.eos, template.end)

    def questions(self, job: Job) -> list[Question]:
        """All prompts of a job; raises Unfit."""
        for token in job.sampling.logit_bias:
            if not 0 <= token < self.tokenizer.vocab_size:
                raise Unfit("invalid_value", self._unknown(token), "logit_bias")
        try:
            return [self.question(prompt, job) for prompt in job.prompts]
        except DataError as error:  # half a surrogate pair
            raise Unfit("invalid_value", str(error), "prompt") from error

    def question(self, prompt: Prompt, job: Job) -> Question:
        """One prompt."""
        if isinstance(prompt, str):
            ids = [self.tokenizer.eos, *self.tokenizer.encode(prompt)]
            return self._continuation(ids, job, hidden=1)
        if not prompt:
            raise Unfit("invalid_value", "the prompt is empty: give it a token at least", "prompt")
        if isinstance(prompt[0], int):
            return self._continuation(self._checked(prompt), job, hidden=0)
        return self._answer(prompt, job)

    def _checked(self, prompt: Sequence[object]) -> list[int]:
        """Token ids that the model knows."""
        ids = [id for id in prompt if isinstance(id, int)]
        for id in ids:
            if not 0 <= id < self.tokenizer.vocab_size:
                raise Unfit("invalid_value", self._unknown(id), "prompt")
        return ids

    def _unknown(self, id: int) -> str:
        last = self.tokenizer.vocab_size - 1
        return f"there is no token {id}: the model's tokens are 0 to {last}"

    def _continuation(self, ids: list[int], job: Job, hidden: int) -> Question:
        """A text that goes on as documents do."""
        room = self.context - len(ids)
        limit = job.sampling.max_tokens
        if room < (1 if limit is None else limit):
            raise Unfit("context_length_exceeded", self._too_long(len(ids), limit), "prompt")
        return Question(
            ids,
            room if limit is None else limit,
            self.text_ends,
            self.tokenizer.unwritten,
            hidden=hidden,
        )

    def _answer(self, conversation: Conversation, job: Job) -> Question:
        """A conversation that the assistant goes on with."""
        template = self.template
        if template is None:
            raise Unfit(
                "model_has_no_chat_template",
                "this model was not taught to talk: it continues texts, POST /v1/completions; for "
                "conversations serve a model of an sft, dpo or ppo stage",
                "messages",
            )
        limit = job.sampling.max_tokens
        turns = conversation
        if job.truncation == "auto":
            wanted = self.context // LEAST_ANSWER if limit is None else limit
            turns = self._newest(conversation, self.context - wanted)
        ids = template.prompt(turns)
        room = self.context - len(ids)
        if room < (1 if limit is None else limit):
            message = self._too_long(len(ids), limit)
            if job.truncation == "auto":
                message += (
                    " (the system prompt and the last message alone; older ones were left out)"
                )
            else:
                message += ', or let the oldest messages fall out with "truncation": "auto"'
            raise Unfit("context_length_exceeded", message, "messages")
        limit = room if limit is None else limit
        return Question(
            ids, limit, (template.end,), template.never, dropped=len(conversation) - len(turns)
        )

    def _newest(self, conversation: Conversation, room: int) -> Conversation:
        """Without the oldest turns, as far as needed to make a prompt of at most `room` tokens.

        A system prompt at the beginning and the last turn stay. What is left begins with a question
        again, as conversations in training do.
        """
        texts = self.tokenizer.encode_batch([turn.text for turn in conversation])
        lengths = [len(text) + AROUND_TURN for text in texts]
        total = sum(lengths) + AROUND_PROMPT
        first = after = int(conversation[0].role == "system")
        last = len(conversation) - 1
        while total > room and after < last:
            total -= lengths[after]
            after += 1
            while after < last and conversation[after].role == "assistant":
                total -= lengths[after]
                after += 1
        return (*conversation[:first], *conversation[after:])

    def _too_long(self, prompt: int, limit: int | None) -> str:
        """The numbers, and what to do."""
        wanted = "" if limit is None else f" and {limit} that may follow (max_tokens)"
        return (
            f"this model's context is {self.context} tokens, but the prompt has {prompt}{wanted}; "
            f"shorten the prompt{'' if limit is None else ' or ask for fewer tokens'}"
        )
