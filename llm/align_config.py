"""What alignment is made of: conversations, human rankings, and the four trainings on them.

Neither torch nor ray. A data set is read as its `schema` says; `columns` tells where a row holds
what, so that no file needs to be converted first.
"""

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from llm.config import (
    AtLeastOneString,
    Auto,
    Count,
    CountOrZero,
    LoopConfig,
    OptimConfig,
    Rate,
    RateOrZero,
    Share,
    ShareBelowOne,
    Strings,
    auto,
    record,
)


@record
class RowsConfig:
    """Files of rows, one JSON object or parquet row each."""

    shards: AtLeastOneString
    """Files, folders, globs or URIs; `pydoc://` asks about Python's own library."""
    format: Literal["auto", "jsonl", "json", "parquet"] = "auto"
    """How shards are written; auto goes by the file name (.jsonl .json .parquet, also .gz .zst)
    and takes a .json file that is no array for jsonl."""
    columns: dict[str, str] = field(default_factory=dict)
    """Where a row holds what, if not under the schema's own name: `{answer: output}`; a path goes
    into lists and objects: `instances.0.output`."""
    roles: dict[str, str] = field(default_factory=dict)
    """Names of speakers besides the usual ones: `{doctor: assistant}`."""
    system: str = ""
    """System prompt of conversations that have none."""


@record
class ChatDataConfig(RowsConfig):
    """Conversations to learn from."""

    schema: Literal["messages", "sharegpt", "alpaca", "question_answer"] = "messages"
    """What a row is. messages: a list `messages` of `role`, `content` and perhaps `weight`;
    sharegpt: a list `conversations` of `from` and `value`; alpaca: `instruction`, `input`,
    `output` and perhaps `system`, `history`; question_answer: `question`, `answer`."""


@record
class PreferenceDataConfig(RowsConfig):
    """Answers that people have compared."""

    schema: Literal["pairs", "transcripts", "ranking", "ratings", "choice"] = "pairs"
    """What a row is. pairs: `prompt`, `chosen`, `rejected` and perhaps `margin`, each a text,
    messages or one message; transcripts: `chosen` and `rejected`, whose turns begin with a line
    "Human:" or "Assistant:"; ranking: `prompt` and `answers` from best to worst, or with `ranks`
    (1 is best, equal ones tie); ratings: `prompt`, `answer`, `rating`, a row each, those of one
    prompt together; choice: `prompt`, `first`, `second` and `preference` (1, 2; others tie)."""


FIELDS: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "system"),
    "sharegpt": ("conversations", "system"),
    "alpaca": ("instruction", "input", "output", "system", "history"),
    "question_answer": ("question", "answer", "system"),
    "pairs": ("prompt", "chosen", "rejected", "margin", "system"),
    "transcripts": ("chosen", "rejected", "margin", "system"),
    "ranking": ("prompt", "answers", "ranks", "system"),
    "ratings": ("prompt", "answer", "rating", "system"),
    "choice": ("prompt", "first", "second", "preference", "system"),
    "choices": ("query", "choices", "gold"),
    "hellaswag": (
        *("activity_label", "ctx", "ctx_a", "ctx_b", "endings", "label"),
        *("query", "choices", "gold"),
    ),
    "arc": ("question", "choices", "answerKey", "query", "gold"),
    "piqa": ("goal", "sol1", "sol2", "label", "query", "choices", "gold"),
    "winogrande": (
        *("sentence", "option1", "option2", "answer"),
        *("context_options", "continuation", "gold"),
    ),
    "blimp": ("sentence_good", "sentence_bad"),
    "mmlu": ("question", "choices", "answer", "A", "B", "C", "D", "query", "gold"),
    "cmmlu": ("question", "A", "B", "C", "D", "answer"),
    "cloze": ("context", "continuation"),
    "lambada": ("text", "context", "continuation"),
    "triviaqa": ("question", "context", "answer", "aliases"),
    "gsm8k": ("question", "answer"),
    "template": (),
    "prompts": ("prompt", "question", "instruction", "query", "turns", "system"),
}
"""What each schema asks a row for; those from `choices` on are of llm/evaluate_config.py, and
`template` asks for whatever it is told."""


@record
class SftConfig(LoopConfig):
    """Instruction tuning: the loss is on the assistant's turns only."""

    data: Annotated[tuple[ChatDataConfig, ...], MinLen(1)]
    """Conversations; several sets are joined."""
    validation: ShareBelowOne = 0.05
    """Share of conversations held out, chosen by a hash of the first question."""
    epochs: Count = 3
    """Passes over the conversations."""
    batch: Auto[Count] = auto
    """Rows per update, over all workers; auto: 16."""
    packing: bool = True
    """Several conversations in a row, which do not see each other; no: each padded to a row."""
    too_long: Literal["cut", "drop"] = "cut"
    """What becomes of a conversation longer than the context: cut at its end, or left out."""
    prompts: Strings = ()
    """Questions that the model answers at every validation, for you to watch."""
    answer_tokens: Count = 64
    """Tokens of these answers at most."""


@record
class RewardConfig(LoopConfig):
    """A model that scores answers as people would, learned from their comparisons."""

    data: Annotated[tuple[PreferenceDataConfig, ...], MinLen(1)]
    """Comparisons; several sets are joined."""
    validation: ShareBelowOne = 0.1
    """Share of comparisons held out, chosen by a hash of the first question."""
    epochs: Count = 1
    """Passes over the comparisons; more than a few are learned by heart."""
    batch: Auto[Count] = auto
    """Comparisons (of two answers or more) per update, over all workers; auto: 16."""
    margin: bool = False
    """Ask for a difference of at least the comparison's margin (Llama 2, section 3.2.2)."""
    too_long: Literal["cut", "drop"] = "cut"
    """A longer conversation than the context loses its oldest tokens, or is left out."""


@record
class DpoConfig(LoopConfig):
    """Direct preference optimisation (Rafailov et al. 2023): no reward model, no sampling."""

    data: Annotated[tuple[PreferenceDataConfig, ...], MinLen(1)]
    """Comparisons; several sets are joined. Of more than two answers all pairs count."""
    validation: ShareBelowOne = 0.1
    """Share of comparisons held out, chosen by a hash of the first question."""
    epochs: Count = 1
    """Passes over the comparisons."""
    batch: Auto[Count] = auto
    """Comparisons per update, over all workers; auto: 16."""
    beta: Rate = 0.1
    """How dear it is to move away from the model that training starts with."""
    label_smoothing: Annotated[float, Ge(0), Le(0.5)] = 0.0
    """Share of comparisons taken to be the wrong way round (conservative DPO)."""
    too_long: Literal["cut", "drop"] = "cut"
    """A longer conversation than the context loses its oldest tokens, or is left out."""
    prompts: Strings = ()
    """Questions that the model answers at every validation, for you to watch."""
    answer_tokens: Count = 64
    """Tokens of these answers at most."""


@record
class KlConfig:
    """What it costs to move away from the model that training starts with."""

    coefficient: RateOrZero = 0.1
    """Reward lost per nat, at the start."""
    adaptive: bool = True
    """Steer the coefficient so that the divergence nears the target (Ziegler et al. 2019)."""
    target: Rate = 6.0
    """Nats of divergence per answer to steer for."""
    horizon: Count = 1_000
    """Answers over which the coefficient reacts; smaller is faster."""


@record
class GuardConfig:
    """What must not happen in PPO, and what is done about it."""

    action: Literal["stop", "shrink"] = "stop"
    """stop: end with the last good checkpoint; shrink: halve the learning rate, stop at the fourth
    time."""
    mismatch: Rate = 0.1
    """Largest mean difference, in nats, between rollout's and trainer's log-probabilities."""
    entropy: RateOrZero = 0.02
    """Least entropy of the policy, in nats per token."""
    length: RateOrZero = 2.0
    """Least mean length of an answer, in tokens, its end included."""
    same: Annotated[float, Gt(0), Le(1)] = 0.9
    """Largest share of a batch's answers that may be one and the same."""
    kl: Rate = 100.0
    """Largest divergence from the reference, in nats per answer."""
    preference: Share = 0.1
    """How far the share of held-out comparisons that the policy sides with may fall below its
    best while the reward rises."""


@record
class ActorsConfig:
    """Actors besides the workers that train, spread over the nodes of the cluster."""

    writers: Count = 1
    """Actors with a copy of the policy, which write answers."""
    judges: Count = 1
    """Actors with the reference and the reward model."""
    gpus: RateOrZero = 0
    """GPUs of each of them."""


@record
class PpoOptimConfig(OptimConfig):
    """AdamW as PPO wants it: steady and without decay towards zero."""

    schedule: Literal["cosine", "linear", "inverse_sqrt", "wsd", "constant"] = "constant"
    """After warm-up: half a cosine, a line, the root of warmup / step (without final_lr), stable
    then linear decay, or no change."""
    weight_decay: RateOrZero = 0.0
    """Decay of matrices and embeddings; vectors (norms, biases) never decay."""


@record
class PpoConfig(LoopConfig):
    """Proximal policy optimisation against a reward (Schulman et al. 2017; InstructGPT 2022)."""

    data: Annotated[tuple[ChatDataConfig, ...], MinLen(1)]
    """Conversations; what precedes the last answer is a prompt."""
    validation: ShareBelowOne = 0.05
    """Share of prompts held out, chosen by a hash of the first question."""
    rule: str | None = None
    """A Python function that scores an answer in place of a reward model: `FILE.py:NAME`, or
    `MODULE:NAME`; called as NAME(prompt, answer, reference), where `reference` is the data's own
    answer."""
    steps: Count = 100
    """Batches of answers."""
    log_every: Count = 1
    """Steps between progress lines."""
    batch: Auto[Count] = auto
    """Prompts per step, over all workers; auto: 64."""
    minibatch: Auto[Count] = auto
    """Answers per update; auto: a quarter of the batch."""
    epochs: Count = 4
    """Passes over each batch of answers."""
    answer_tokens: Count = 64
    """Tokens of an answer at most, its end included."""
    temperature: Rate = 1.0
    """Sharpness of the policy's choice, in writing and in training."""
    kl: KlConfig = field(default_factory=KlConfig)
    """The price of moving away from the reference."""
    gamma: Annotated[float, Gt(0), Le(1)] = 1.0
    """Discount of later rewards, per token."""
    gae: Share = 0.95
    """Lambda of generalised advantage estimation."""
    clip: Annotated[float, Gt(0), Le(1)] = 0.2
    """How far an update may move a token's probability ratio away from 1."""
    value_clip: Rate = 0.2
    """How far an update may move the critic's value."""
    entropy: RateOrZero = 0.0
    """Bonus per nat of entropy."""
    reward_clip: Rate = 5.0
    """Largest size of a normalised reward."""
    whiten_rewards: bool = False
    """Scale per-token rewards to unit variance, too; advantages always are whitened."""
    truncated: float | None = -1.0
    """Reward of an answer that does not end within answer_tokens; none: as it is scored."""
    pretrain_weight: RateOrZero = 0.0
    """Weight of the pretraining loss mixed in against forgetting (InstructGPT's PPO-ptx)."""
    critic_lr: Auto[Rate] = auto
    """Learning rate of the critic; auto: that of the policy."""
    critic_warmup: CountOrZero = 0
    """Steps at the start in which only the critic learns."""
    optim: PpoOptimConfig = field(default_factory=PpoOptimConfig)
    """The optimizer of policy and critic."""
    guards: GuardConfig = field(default_factory=GuardConfig)
    """What must not happen."""
    actors: ActorsConfig | None = None
    """Actors that write and judge; none: each worker holds all four models and does it itself."""
    prompts: Strings = ()
    """Questions that the model answers at every validation, for you to watch."""
