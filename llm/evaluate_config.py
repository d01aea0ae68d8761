"""What is measured of models: text, tasks, wins, memorisation, toxicity, associations.

Neither torch nor ray. Each group is off unless it is mentioned; `memorisation: {}` turns it on.
"""

from dataclasses import field
from typing import Literal

from llm.align_config import RowsConfig
from llm.config import (
    AtLeastOneString,
    Count,
    CountOrZero,
    Rate,
    Share,
    Strings,
    TextConfig,
    record,
)

Way = Literal["choice", "cloze", "write"]


@record
class MeasuredTextConfig(TextConfig):
    """Text whose bits per byte are measured, document by document."""

    fraction: Share = 1.0
    """Share of the documents that count, by the hash that `data.validation.fraction` goes by: the
    same fraction gives the documents that a training on this text held out. 1: all."""
    bytes: Count = 131_072
    """Bytes of text read at most, whole documents from all over the shards."""


@record
class TaskConfig(RowsConfig):
    """Questions with known answers."""

    schema: Literal[
        "choices",
        "hellaswag",
        "arc",
        "piqa",
        "winogrande",
        "blimp",
        "mmlu",
        "cmmlu",
        "cloze",
        "lambada",
        "triviaqa",
        "gsm8k",
        "question_answer",
        "pairs",
        "transcripts",
        "template",
    ]
    """What a row is: that of the set of this name, as its authors or MosaicML write it; choices:
    `query`, `choices`, `gold`; cloze: `context`, `continuation`; question_answer, pairs and
    transcripts as in sft and reward; template: `prompt`, `choices` and `answer` below say it."""
    prompt: str = ""
    """For schema template: what is read, `{name}` or `{a.0.b}` standing for what a row holds."""
    choices: Strings = ()
    """For schema template: what may follow, each like `prompt`; or one path to a list."""
    answer: str = ""
    """For schema template: with choices the path to the right one's number (from 0), letter (from
    A) or text; else what is to follow, like `prompt`."""
    measure: Way | None = None
    """choice: which choice is likeliest; cloze: whether the answer is the likeliest text, and how
    likely it is; write: whether the model writes it. None: as usual for the schema; for template
    choice if there are choices, else cloze."""
    shots: CountOrZero = 0
    """Solved examples before each question."""
    shots_from: Strings = ()
    """Files of these examples, of which the first are taken; none: the first rows of the set, which
    are not measured then."""
    limit: Count | None = None
    """Questions at most, the first ones; none: all."""
    chat: bool = False
    """Ask chat models by their chat template, examples being earlier turns; others read on."""
    delimiter: str | None = None
    """Between question and answer; none: as usual for the schema, mostly a space."""
    answer_tokens: Count = 256
    """Tokens that are written at most."""
    stop: Strings = ()
    """Texts before which what is written ends; none: as usual for the schema."""
    extract: str = ""
    """Regular expression whose first group, in its first match, is the written answer (and what
    counts of the right one, if it matches there); empty: as usual for the schema, mostly all."""


@record
class PromptsConfig(RowsConfig):
    """Prompts that models answer."""

    schema: Literal["prompts"] = "prompts"
    """What a row is: `prompt`, or `question`, `instruction`, `query` or the first of `turns`."""
    limit: Count = 100
    """Prompts at most, the first ones."""
    answer_tokens: Count = 128
    """Tokens of an answer at most."""


@record
class JudgeConfig:
    """A model elsewhere that says which of two answers is better."""

    url: str
    """Of an API like OpenAI's, up to `/v1`: `https://HOST/v1`."""
    model: str
    """The name by which that server knows the model."""
    key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; without one none is sent."""
    prompt: str = ""
    """What it is asked, with {question}, {first} and {second}; it must answer with [[A]], [[B]] or
    [[C]] for a tie. Empty: one like MT-bench's."""
    timeout: Rate = 60.0
    """Seconds for an answer."""
    retries: CountOrZero = 3
    """Further tries after a time-out, a lost connection, or an answer 408, 429 or 5xx."""
    concurrent: Count = 4
    """Questions at a time."""
    answer_tokens: Count = 512
    """Tokens of its answer at most."""


@record
class WinsConfig(PromptsConfig):
    """How often the model's answers are preferred to those of the models in `also`."""

    judge: JudgeConfig | None = None
    """Asked twice, with the answers in either order; if it then disagrees with itself, it is a
    tie. None: the reward model of `reward` judges."""


@record
class MemorisationConfig:
    """How much of its training text a model writes down verbatim."""

    documents: Count = 100
    """Documents whose beginning it is given; and as many held-out ones, if there are, besides."""
    prompt_tokens: Count = 32
    """Tokens of the beginning."""
    answer_tokens: Count = 32
    """Tokens that it writes, always the likeliest one."""


@record
class ToxicityConfig(PromptsConfig):
    """How often listed words occur in what models write."""

    words: str
    """File with a word or phrase a line."""


@record
class AssociationConfig:
    """Whether one group of words goes with one ending more than another group does."""

    templates: AtLeastOneString
    """Beginnings of sentences with `{}` for the word: `The {} said that`."""
    first: AtLeastOneString
    """Words that a prejudice puts with the first ending."""
    second: AtLeastOneString
    """Words that it puts with the second."""
    endings: tuple[str, str]
    """The two endings, spaces included: [" she", " he"]."""


@record
class AssociationsConfig:
    """Probes of which words a model puts together; they tell of these words alone."""

    lists: tuple[Literal["gender_en", "gender_zh"], ...] = ("gender_en", "gender_zh")
    """Lists that come with the program: occupations with she and he, 她 and 他."""
    own: dict[str, AssociationConfig] = field(default_factory=dict)
    """Lists of yours, by name."""


@record
class EvaluateConfig:
    """What is measured of each model."""

    text: dict[str, MeasuredTextConfig] = field(default_factory=dict)
    """Texts by name, for perplexity and bits per byte."""
    tasks: dict[str, TaskConfig] = field(default_factory=dict)
    """Tasks by name."""
    wins: WinsConfig | None = None
    """Which model's answers are preferred."""
    memorisation: MemorisationConfig | None = None
    """What models know by heart of the text that they were pretrained on."""
    toxicity: ToxicityConfig | None = None
    """Listed words in what models write."""
    associations: AssociationsConfig | None = None
    """Probes of prejudice."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Of matrix products; auto: bf16 where the machine multiplies it in hardware. fp32 gives the
    same figures everywhere."""
