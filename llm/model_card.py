"""README.md of an exported model: what it is, what it was made of, how well it does, how to use it.

Everything in it is read off the manifests of the stages that made it; nobody has to write it, and
nothing in it can be out of date.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llm.config import ModelConfig
from llm.data_card import as_yaml, escaped
from llm.evaluation_section import number, told
from llm.metrics import quantity
from llm.model_card_head import Lineage, Step, head, results_of

__all__ = ["Lineage", "Step", "model_card"]

FIGURES = {
    "bpb": "bits per byte of held-out text",
    "loss": "loss on held-out data",
    "train_loss": "loss in training",
    "accuracy": "held-out comparisons judged like people",
    "reward": "reward of held-out prompts",
    "kl": "divergence from the model before",
    "tokens": "tokens trained on",
    "steps": "steps",
}
"""Metrics that a reader asks for, in words."""


INTENDED = {
    "base": "It continues text. It has not learned to answer or to decline, so whatever people are "
    "to read of it wants a stage of alignment first, and a filter.",
    "chat": "It answers in conversations, in the languages and on the matters of what it was "
    "trained on. It is meant to be studied and built upon.",
    "judge": "It says which of two answers people would prefer, in order to train and compare "
    "models. It judges answers like those it has learned from, and nobody who wrote them.",
}
"""What a model is for, by what it can do."""

LIMITS = (
    "It knows what was in its data up to the day they were collected, and says it with the same "
    "assurance when it is wrong. It may repeat what its data hold of prejudice, errors and private "
    "matters. Do not let it decide about people, health, law or money, and do not run what it "
    "writes unread. Languages and subjects that its data lack it does not know."
)


def model_card(
    model: ModelConfig,
    architecture: str,
    dtype: str,
    chat: bool,
    lineage: Lineage,
    license: str = "",
) -> str:
    """The whole page."""
    name = lineage[-1].name if lineage else "model"
    judges = architecture.endswith("ForSequenceClassification")
    task = "text-classification" if judges else "text-generation"
    tags = ["reward-model"] if judges else [task, *(["conversational"] if chat else [])]
    what = "judge" if judges else "chat" if chat else "base"
    parts = [
        f"---\n{as_yaml(head(name, task, tags, license, lineage))}---",
        f"# {name}",
        f"A {architecture} of {model.depth} layers, width {model.width}, {model.heads} heads "
        f"({model.kv_heads} of keys and values), {model.context} tokens of context; weights in "
        f"{dtype}.",
        "\n".join(judging() if judges else use(chat)),
        f"## Intended use\n\n{INTENDED[what]}",
        f"## Limits\n\n{LIMITS}",
        training_data(lineage),
        evaluation(results_of(lineage)),
        "\n".join(made(lineage)),
    ]
    return "\n\n".join(part for part in parts if part).rstrip() + "\n"


def training_data(lineage: Lineage) -> str:
    """What the stages read, with digests by which it can be recognised."""
    lines = [text for step in lineage if (text := read_by(step))]
    parts = ["\n".join(lines), "\n".join(sources(lineage))]
    known = "\n\n".join(part for part in parts if part)
    return f"## Training data\n\n{known}" if known else ""


def read_by(step: Step) -> str:
    """`- corpus: kept 90 of 100 documents`"""
    kept, read = (step.metrics.get(key) for key in ("kept", "documents"))
    if step.kind == "corpus" and isinstance(kept, int) and isinstance(read, int):
        names = ", ".join(map(escaped, step.spec.get("sources", {})))
        return f"- {step.name}: {kept:,} of {read:,} documents kept, of {names}"
    tokens = step.metrics.get("tokens")
    if step.kind == "pretrain" and isinstance(tokens, int):
        return f"- {step.name}: {quantity(tokens)} tokens"
    return ""


def evaluation(rows: Sequence[Mapping[str, Any]]) -> str:
    """What was measured of it, with 95% intervals."""
    if not rows:
        return ""
    lines = ["| task | metric | value | 95% interval | examples |", "|---|---|--:|--:|--:|"]
    for row in rows:
        ends = number(row.get("low")), number(row.get("high"))
        known = ends[0] is not None and ends[1] is not None
        span = f"{told(ends[0], row)} to {told(ends[1], row)}" if known else ""  # type: ignore[arg-type]
        cells = (row["task"], row["metric"], told(row["value"], row), span, row.get("examples", ""))
        lines.append(f"| {' | '.join(escaped(str(cell)) for cell in cells)} |")
    return "## Evaluation\n\n" + "\n".join(lines)


def use(chat: bool) -> list[str]:
    """How to load it."""
    asked = (
        [
            'messages = [{"role": "user", "content": "..."}]',
            "ids = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
            ")",
        ]
        if chat
        else ['ids = tokenizer("...", return_tensors="pt")']
    )
    return [
        "```python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        "tokenizer = AutoTokenizer.from_pretrained(FOLDER)",
        "model = AutoModelForCausalLM.from_pretrained(FOLDER)",
        *asked,
        "print(tokenizer.decode(model.generate(**ids, max_new_tokens=64)[0]))",
        "```",
        "",
        "`vllm serve FOLDER` serves it. No code of its own is needed, and none is in it.",
    ]


def judging() -> list[str]:
    """How to load a reward model."""
    return [
        "```python",
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
        "",
        "tokenizer = AutoTokenizer.from_pretrained(FOLDER)",
        "judge = AutoModelForSequenceClassification.from_pretrained(FOLDER)",
        'messages = [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]',
        'ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)',
        "reward = judge(**ids).logits + judge.config.reward_offset",
        "```",
        "",
        "Rewards of reference answers have mean 0 and variance 1.",
    ]


def made(lineage: Lineage) -> list[str]:
    """What it was made of, stage by stage."""
    if not lineage:
        return []
    rows = [
        f"| {step.name} | {step.kind} | `{step.fingerprint}` | {figures(step)} |"
        for step in lineage
    ]
    return [
        "## How it was made",
        "",
        "| stage | kind | fingerprint | figures |",
        "|---|---|---|---|",
        *rows,
        "",
        "A fingerprint stands for all that decided a result: settings, data, seed, and what it was",
        "built on.",
    ]


def figures(step: Step) -> str:
    """The figures of a stage in words."""
    known = [
        f"{text}: {shown(step.metrics[name])}"
        for name, text in FIGURES.items()
        if isinstance(step.metrics.get(name), int | float)
    ]
    if "architecture" in step.metrics:
        known.append(f"taken over from a {step.metrics['architecture']}")
    return "; ".join(known)


def shown(value: float) -> str:
    """`1.234` or `12.3M`"""
    return quantity(value) if isinstance(value, int) else f"{value:.4g}"


def sources(lineage: Lineage) -> list[str]:
    """Digests of the data, so that it can be recognised."""
    rows = [
        f"| {step.name} | {key} | `{digest[:12]}` |"
        for step in lineage
        for key, value in step.data.items()
        if key in ("digest", "examples", "folder", "held_out")
        for digest in (value if isinstance(value, list | tuple) else [value])
        if isinstance(digest, str) and digest
    ]
    if not rows:
        return []
    return ["| stage | what | digest |", "|---|---|---|", *rows]
