"""How a conversation becomes tokens: one template for training, rewards, evaluation and serving.

    <|bos|> <|system|> text <|end|> <|user|> text <|end|> <|assistant|> text <|end|> ...

Nothing stands between them, neither spaces nor line ends. Each text is encoded on its own, and no
text encodes to a control token, so what a user writes can never end a turn or begin another's.
The loss is on what the assistant writes, `<|end|>` included, which is how it learns to stop.

`CHAT_TEMPLATE` is the same for transformers, which cuts a string at its special tokens and would
find those that a user typed. So the template puts U+FDD0, which no text interchanged may hold,
behind every "<" of a text, and the normalizer of tokenizer.json (llm/hf_tokenizer.py) takes the
first one behind each "<" away again: exactly undone, whatever the text.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from llm.errors import ArtifactError
from llm.tokenizer import BOS, GUARD, TURNS, Tokenizer

Role = Literal["system", "user", "assistant"]

ROLES: tuple[Role, ...] = get_args(Role)

END = "<|end|>"

CHAT_TEMPLATE = r"""{{- '<|bos|>' }}
{%- for message in messages %}
    {%- if message['role'] not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('roles are system, user and assistant, not ' + message['role']) }}
    {%- endif %}
    {{- '<|' + message['role'] + '|>' }}
    {%- set text = message['content'] | replace('<', '<\ufdd0') %}
    {%- if message['role'] == 'assistant' and message.get('weight', 1) > 0 %}
        {%- generation %}{{- text + '<|end|>' }}{%- endgeneration %}
    {%- else %}
        {{- text + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""


BRACKET = "<"
"""Begins every control token of ours."""


def chat_template(bos: str, brackets: str = BRACKET, texts: Sequence[str] = ()) -> str:
    """`CHAT_TEMPLATE` for a tokenizer of others.

    brackets: the characters that its control tokens begin with, of which each gets a guard.
    texts: added tokens that are text, and are to be found.
    """
    marked = [(quoted(guarded(one, brackets)), quoted(one)) for one in texts]
    lift = "".join(f" | replace({marked}, {plain})" for marked, plain in marked if marked != plain)
    guard = "".join(f" | replace({quoted(one)}, {quoted(one + GUARD)})" for one in brackets)
    ours = f" | replace({quoted(BRACKET)}, {quoted(BRACKET + GUARD)})"
    assert ours in CHAT_TEMPLATE, "the template guards brackets"
    return CHAT_TEMPLATE.replace(quoted(BOS), quoted(bos)).replace(ours, guard + lift)


def guarded(text: str, brackets: str) -> str:
    """What the template makes of a text."""
    return "".join(one + GUARD if one in brackets else one for one in text)


def quoted(text: str) -> str:
    """A string in Jinja."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return "'" + escaped.replace(GUARD, "\\ufdd0") + "'"


class Turn(NamedTuple):
    """What somebody says. `weight` is that of its tokens in the loss, if the assistant says it."""

    role: Role
    text: str
    weight: float = 1.0


Conversation = tuple[Turn, ...]


class Rendered(NamedTuple):
    """A conversation of T tokens; `weights` are theirs as targets, 0 where nothing is learned."""

    ids: np.ndarray
    weights: np.ndarray


class Template:
    """The chat template on a tokenizer that has tokens for turns."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        ids = tokenizer.controls
        if not ids:
            raise ArtifactError(
                f"{tokenizer.path}: the tokenizer has no tokens for turns ({' '.join(TURNS)}), so "
                "it cannot hold a conversation; train the tokenizer and the model that you align "
                "here, with a tokenizer stage that has no file:, or import a model: kind: import"
            )
        self.tokenizer = tokenizer
        self.bos: int = ids[BOS]
        """Begins every conversation."""
        self.end: int = ids[END]
        """Ends every turn."""
        self.roles: dict[str, int] = {role: ids[f"<|{role}|>"] for role in ROLES}
        self.never = tuple(dict.fromkeys(id for piece, id in ids.items() if piece != END))
        """Tokens that no answer may hold."""

    def render(self, conversation: Conversation) -> Rendered:
        """All turns, as they are learned."""
        texts = self.tokenizer.encode_batch([turn.text for turn in conversation])
        ids, weights = [self.bos], [0.0]
        for turn, text in zip(conversation, texts, strict=True):
            weight = turn.weight if turn.role == "assistant" else 0.0
            ids += [self.roles[turn.role], *text, self.end]
            weights += [0.0, *[weight] * (len(text) + 1)]
        return Rendered(np.array(ids, np.int32), np.array(weights, np.float32))

    def prompt(self, conversation: Conversation) -> list[int]:
        """All turns and `<|assistant|>`, ready to be answered."""
        ids: list[int] = self.render(conversation).ids.tolist()
        return [*ids, self.roles["assistant"]]

    def answer(self, text: str) -> list[int]:
        """What follows a prompt when the assistant answers that."""
        return [*self.tokenizer.encode(text), self.end]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer, up to its end if it has one."""
        ended = list(ids)
        return self.tokenizer.decode(ended[: ended.index(self.end)] if self.end in ended else ended)
