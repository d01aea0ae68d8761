"""README.md of an exported model: what it is, what it was made of, how well it does, how to use it.

Everything in it is read off the manifests of the stages that made it; nobody has to write it, and
nothing in it can be out of date.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llm.config import ModelConfig
from llm.metrics import quantity


class Step(NamedTuple):
    """A stage that made something of the model."""

    name: str
    kind: str
    fingerprint: str
    spec: Mapping[str, Any]
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]


Lineage = Sequence[Step]

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


def model_card(
    model: ModelConfig, architecture: str, dtype: str, chat: bool, lineage: Lineage
) -> str:
    """The whole page."""
    name = lineage[-1].name if lineage else "model"
    judges = architecture.endswith("ForSequenceClassification")
    task = "text-classification" if judges else "text-generation"
    tags = ["reward-model"] if judges else [task, *(["conversational"] if chat else [])]
    head = ["---", "library_name: transformers", f"pipeline_tag: {task}", "tags:"]
    head += [f"- {tag}" for tag in tags] + ["---"]
    about = [
        f"# {name}",
        "",
        f"A {architecture} of {model.depth} layers, width {model.width}, {model.heads} heads "
        f"({model.kv_heads} of keys and values), {model.context} tokens of context; weights in "
        f"{dtype}.",
        "",
        *(judging() if judges else use(chat)),
        "",
        *made(lineage),
    ]
    return "\n".join([*head, "", *about]).rstrip() + "\n"


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
        "built on. Limits: a model knows what was in its data, and says it with the same assurance",
        "when it is wrong.",
        *sources(lineage),
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
    return ["", "## Data", "", "| stage | what | digest |", "|---|---|---|", *rows]
