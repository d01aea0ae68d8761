"""The story of a run in plain sentences, of manifests and logs; what is not known is not told."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jobs.report_read import RunSeen, Seen, mapping
from llm.falls import falls_line
from llm.metrics import duration, quantity, size_of
from llm.panels import held_out, points, trained
from llm.plots import label
from tune.space import short

PARTICLES = {"pydoc://": "Python's own documentation", "feedback://": "what people said"}


def story(run: RunSeen) -> Iterator[str]:
    """A sentence for each stage that has something to tell, then how the whole went."""
    if not any(one.kind == "corpus" for one in run.stages) and (text := text_of(run)):
        yield f"The text is {text}."
    for one in run.stages:
        tell = SENTENCES.get(one.kind)
        if one.folder and tell and (sentence := tell(one)):
            several = sum(other.kind == one.kind for other in run.stages) > 1
            yield f"{one.name}: {sentence}" if several else sentence
    yield from falls(run)
    yield ending(run)


def text_of(run: RunSeen) -> str:
    """Where the text of `data` comes from."""
    shards = mapping(mapping(run.record.get("spec")).get("data")).get("shards")
    known = [PARTICLES.get(str(one), str(one)) for one in shards] if shards else []
    return ", ".join(known[:3]) + (f" and {len(known) - 3} more" if len(known) > 3 else "")


def ending(run: RunSeen) -> str:
    """`All of it took 12m 05s.` or where it stands."""
    took = duration(sum(one.seconds for one in run.stages))
    begun = [one for one in run.stages if one.folder]
    open_ = [one for one in begun if one.state != "finished"]
    waiting = [one.name for one in run.stages if one.state == "not begun"]
    if not open_ and not waiting:
        return f"All of it took {took} of work."
    parts = [f"After {took} of work it is not done"]
    parts += [f"{one.name} is {one.state}{progress(one)}" for one in open_]
    if waiting:
        parts.append(f"still to come: {', '.join(waiting)}")
    return "; ".join(parts) + "."


def progress(seen: Seen) -> str:
    """` at step 120 of 2,000`"""
    if not seen.log or "steps" not in seen.start:
        return ""
    reached = max(event["step"] for event in seen.log)
    return f" at step {reached:,} of {seen.start['steps']:,}"


def falls(run: RunSeen) -> Iterator[str]:
    """What befell it on the way."""
    hit = [(one.name, falls_line(one.account.metrics())) for one in run.stages]
    told = [f"{name} {line}" for name, line in hit if line]
    if told:
        yield f"On the way {'; '.join(told)}."
    elif any(one.log for one in run.stages):
        yield "Nothing fell on the way."


# -- one sentence per kind of stage ----------------------------------------------------------------


def number(values: Mapping[str, Any], key: str) -> float | None:
    """A figure, if there is one of that name."""
    value = values.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def corpus(seen: Seen) -> str:
    """What was kept, and what most of the rest was dropped for."""
    read, kept = number(seen.metrics, "documents"), number(seen.metrics, "kept")
    if read is None or kept is None:
        return ""
    size = number(seen.metrics, "train_bytes")
    text = f"Of {read:,.0f} documents {kept:,.0f} were kept"
    dropped = mapping(seen.metrics.get("dropped"))
    if reasons := [f"{reason} ({count:,})" for reason, count in list(dropped.items())[:3]]:
        text += f"; most others were dropped for {', '.join(reasons)}"
    return text + (f"; {size_of(size)} are left to train on." if size else ".")


def tokenizer(seen: Seen) -> str:
    """How large it is, and how much a token holds."""
    size, each = number(seen.metrics, "vocab_size"), number(seen.metrics, "bytes_per_token")
    if size is None:
        return ""
    text = f"A tokenizer of {size:,.0f} tokens cuts the text"
    return text + (f" into pieces of {each:.2f} bytes on average." if each else " into pieces.")


def pretrain(seen: Seen) -> str:
    """The model, what it has read, and what a byte costs it now."""
    parameters = number(seen.start, "parameters")
    if parameters is None:
        return ""
    model = mapping(seen.spec.get("model"))
    shape = f"{model.get('family', 'model')} of {model.get('depth', '?')} layers"
    tokens = number(seen.metrics, "tokens")
    text = f"A {shape} and {quantity(parameters)} parameters was trained"
    text += f" on {quantity(tokens)} tokens" if tokens else ""
    text = text.replace("A encoder", "An encoder") + steps(seen)
    bits = change(seen, "bpb", "a byte of held-out text cost {} bits at first and {} in the end")
    loss = change(seen, "loss", "the loss on held-out text went from {} to {}")
    return sentence(text, bits or loss)


def sft(seen: Seen) -> str:
    """How it learned to answer."""
    text = "It learned to answer from conversations" + steps(seen)
    return sentence(text, change(seen, "loss", "the loss on held-out answers went from {} to {}"))


def reward(seen: Seen) -> str:
    """How often the reward model sides with people."""
    text = "A reward model learned from comparisons" + steps(seen)
    return sentence(text, sided(seen))


def dpo(seen: Seen) -> str:
    """How far it was moved towards what people prefer."""
    return sentence("DPO moved it towards the preferred answers" + steps(seen), sided(seen))


def sided(seen: Seen) -> str:
    """`it sees the better answer in 71% of held-out pairs (66% to 76%)`"""
    found = [event for event in seen.log if event["event"] == "validation" and "accuracy" in event]
    if not found:
        return ""
    last = found[-1]
    text = f"it knows the better answer in {last['accuracy']:.0%} of held-out pairs"
    ends = number(last, "low"), number(last, "high")
    return text + (f" ({ends[0]:.0%} to {ends[1]:.0%})" if None not in ends else "")


def ppo(seen: Seen) -> str:
    """What reward it reached, how far from where it began."""
    at = points(seen.log, held_out("reward"))
    at = at if len(at.steps) > 1 else points(seen.log, trained("reward"))
    away = points(seen.log, trained("kl")).last
    if at.first is None or at.last is None:
        return ""
    found = f"the reward of its answers went from {label(at.first)} to {label(at.last)}"
    found += f", {label(away)} nats away from where it began" if away is not None else ""
    return sentence("PPO let it find out which answers earn most" + steps(seen), found)


def search(seen: Seen) -> str:
    """What a sweep or a ladder has found."""
    trials = mapping(seen.metrics.get("trials"))
    best, law = mapping(seen.metrics.get("best")), mapping(seen.metrics.get("law"))
    if not trials:
        return ""
    text = f"{sum(trials.values())} trials were run"
    if best:
        values = ", ".join(f"{path} {short(value)}" for path, value in best["point"].items())
        return f"{text}; the best reached {best['metric']} {best['figure']:.4g} with {values}."
    return f"{text}; {law['text']}." if "text" in law else f"{text}."


def steps(seen: Seen) -> str:
    """` in 120 steps`, or how far it is."""
    reached = max((event["step"] for event in seen.log), default=0)
    return f" in {reached:,} steps" if reached else ""


def change(seen: Seen, key: str, words: str) -> str:
    """The first and the last of a figure of held-out data, in words."""
    at = points(seen.log, held_out(key))
    if at.first is None or at.last is None or len(at.steps) < 2:
        return ""
    return words.format(label(at.first), label(at.last))


def sentence(*parts: str) -> str:
    """Those that say something, in a row."""
    return "; ".join(part for part in parts if part) + "."


SENTENCES: Mapping[str, Callable[[Seen], str]] = {
    "corpus": corpus,
    "tokenizer": tokenizer,
    "pretrain": pretrain,
    "sft": sft,
    "reward": reward,
    "dpo": dpo,
    "ppo": ppo,
    "sweep": search,
    "scaling": search,
}
