"""What must hold of sweeps and ladders: their fields exist, their values are allowed there."""

from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any

from jobs import rules
from jobs.diagnose import diagnose
from jobs.kinds import REFERENCES, TRAININGS, references
from jobs.point import keys_of, laid_over
from jobs.shape import did_you_mean, fields_of, item_of, listed_in, named_in, nearest, record_in
from jobs.spec import SpecFile
from jobs.stages import (
    ExampleStage,
    PretrainStage,
    ScalingStage,
    SweepStage,
)
from jobs.yaml_source import Keys, Problem, Source
from llm.config import objective_of
from tune.config import DimensionConfig, Scalar
from tune.findings import dimension_finding, scaling_findings, sweep_findings
from tune.space import kind_of, values_of

Findings = Iterator[tuple[Keys, str]]

OF_TEXT = {
    "next_token": ("bpb", "loss"),
    "masked": ("loss", "filled"),
    "spans": ("loss", "filled"),
    "autoencode": ("loss", "restored", "whole_words"),
}
"""What validations of pretrainings measure, by objective."""

FIGURES = {
    "sft": ("loss", "perplexity"),
    "reward": ("loss", "accuracy", "calibration"),
    "dpo": ("loss", "accuracy", "margin"),
    "ppo": ("reward", "kl", "length", "ended", "preference"),
}
"""What validations measure, by kind of other stages."""

AT_THE_END = ("train_loss", "tokens_per_second")
"""What is known of a trial once it has ended."""

MOVABLE = ("optim", "dropout", "faults", "kl", "clip", "value_clip", "entropy", "beta", "margin")
"""Of what a population may change under way: nothing that changes the model's shape or its data."""


def of_searches(spec: SpecFile, source: Source) -> Iterator[Problem]:
    """Everything that is wrong with sweeps and ladders."""
    for name, stage in spec.stages.items():
        if isinstance(stage, SweepStage):
            found = [*of_sweep(name, stage, spec), *of_space(stage, spec, source)]
        elif isinstance(stage, ScalingStage):
            found = list(scaling_findings(stage.config))
        else:
            continue
        for keys, message in found:
            at = ("stages", name, *keys)
            yield Problem(source.place(at), at, message)


# -- the sweep as a whole --------------------------------------------------------------------------


def of_sweep(name: str, stage: SweepStage, spec: SpecFile) -> Findings:
    """Its own rules, its row of stages, and figures that these have."""
    yield from sweep_findings(stage.config)
    if any(one not in spec.stages for one in stage.of):
        return  # told where it is written
    yield from of_row(stage, spec)
    last = spec.stages[stage.of[-1]]
    if isinstance(last, TRAININGS):
        yield from of_figures(stage, last)
    else:
        message = f"{stage.of[-1]!r} is a {last.kind} stage; the last one must train a model"
        yield ("of", len(stage.of) - 1), message
    if not isinstance(last, PretrainStage):
        yield from of_tokens(stage, last.kind)


def of_row(stage: SweepStage, spec: SpecFile) -> Findings:
    """Each stage of a trial feeds a later one."""
    for number, one in enumerate(stage.of[:-1]):
        if one in stage.of[number + 1 :]:
            yield ("of", number), f"{one!r} stands there twice"
            continue
        later = [references(spec.stages[other]).values() for other in stage.of[number + 1 :]]
        if not any(one in names for names in later):
            rest = ", ".join(stage.of[number + 1 :])
            yield ("of", number), f"nothing after it is built on {one!r}: {rest}; leave it out"
    if stage.scheduler == "pbt" and len(stage.of) > 1:
        yield ("of",), "a population changes one training under way; name one stage"


def of_figures(stage: SweepStage, last: PretrainStage | ExampleStage) -> Findings:
    """What decides is measured."""
    early = stage.scheduler != "none"
    measured, kind = figures_of(last), last.kind
    known = measured if early else (*measured, *AT_THE_END)
    places: dict[str, Keys] = {stage.metric: ("metric",)}
    places |= {name: ("also", name) for name in stage.also}
    for figure, keys in places.items():
        allowed = known if keys == ("metric",) else (*measured, *AT_THE_END)
        if figure in allowed:
            continue
        why = " while it trains" if early and figure in AT_THE_END else ""
        meant = did_you_mean(nearest(figure, allowed))
        message = f"{figure!r} is not measured{why};{meant} a {kind} stage has {', '.join(allowed)}"
        yield keys, message


def figures_of(last: PretrainStage | ExampleStage) -> tuple[str, ...]:
    """What a training's validations measure."""
    if isinstance(last, PretrainStage):
        return OF_TEXT[objective_of(last.objective, last.model)]
    return FIGURES[last.kind]


def of_tokens(stage: SweepStage, kind: str) -> Findings:
    """Only a pretraining's length is told in tokens."""
    told: dict[Keys, object] = {
        ("tokens",): stage.tokens,
        ("early", "grace"): stage.early.grace,
        ("population", "every"): stage.population.every,
    }
    for keys, value in told.items():
        if value not in (None, "auto"):
            message = f"{value} is not allowed: trials of a {kind} stage are compared at equal"
            yield keys, f"{message} shares of the training, not at tokens; leave it out"


# -- the space -------------------------------------------------------------------------------------


def of_space(stage: SweepStage, spec: SpecFile, source: Source) -> Findings:
    """Each field exists, and takes each of its values."""
    for path, dimension in stage.space.items():
        keys = ("space", path)
        if message := wrong_path(path, stage, spec):
            yield keys, message
        elif dimension_finding(dimension):
            continue  # told with the sweep's own rules
        elif message := wrong_value(path, dimension, spec, source):
            yield keys, message


def wrong_path(path: str, stage: SweepStage, spec: SpecFile) -> str:
    """Why a path leads nowhere; empty: it leads to a field that may vary."""
    first, *names = path.split(".")
    if first not in stage.of:
        inside = [f"{one}.{path}" for one in stage.of if has(spec, one, (first, *names))]
        meant = did_you_mean(inside or [".".join((n, *names)) for n in nearest(first, stage.of)])
        return f"does not begin with a stage of the trials;{meant} they run {', '.join(stage.of)}"
    if first not in spec.stages:
        return ""  # told where it is written
    written = spec.stages[first]
    if not names or names[0] in ("kind", *REFERENCES[written.kind]):
        return "cannot vary; name a field that is a plain value, such as pretrain.optim.lr"
    annotation: Any = type(written)
    walked: list[str] = [first]
    for name in names:
        allowed = keys_in(annotation)
        if allowed is not None and name not in allowed:
            meant = did_you_mean([".".join((*walked, one)) for one in nearest(name, allowed)])
            return f"unknown key {name!r};{meant} allowed: {', '.join(allowed)}"
        if allowed is None and not is_open(annotation):
            return f"{'.'.join(walked)} is a plain value; there are no keys in it"
        annotation = item_of(annotation, name)
        walked.append(name)
    if keys_in(annotation) is not None:
        return f"is a group of fields; name one of {', '.join(keys_in(annotation) or ())}"
    if stage.scheduler == "pbt" and not any(name in MOVABLE for name in names):
        return f"cannot change under way, as pbt would; it may move {', '.join(MOVABLE)}"
    return ""


def keys_in(annotation: Any) -> Sequence[str] | None:
    """The keys of a record; None of anything else."""
    record = annotation if is_dataclass(annotation) else record_in(annotation)
    return list(fields_of(record)) if isinstance(record, type) else None


def is_open(annotation: Any) -> bool:
    """Whether its keys or numbers are the user's own."""
    return bool(named_in(annotation)) or bool(listed_in(annotation))


def has(spec: SpecFile, stage: str, names: Sequence[str]) -> bool:
    """Whether a stage has such a field."""
    annotation: Any = type(spec.stages[stage]) if stage in spec.stages else None
    for name in names:
        allowed = keys_in(annotation)
        if allowed is None or name not in allowed:
            return False
        annotation = item_of(annotation, name)
    return True


def wrong_value(path: str, dimension: DimensionConfig, spec: SpecFile, source: Source) -> str:
    """Why a value is not allowed for a field; empty: all are."""
    before = {(one.keys, one.message) for one in problems_of(source)}
    for value in ends_of(dimension):
        try:
            tried = laid_over(source, path, value)
        except ValueError as error:
            return str(error)
        keys = keys_of(source, path)
        for one in problems_of(tried):
            if (one.keys, one.message) not in before and one.keys[: len(keys)] == keys:
                return one.message
    return ""


def ends_of(dimension: DimensionConfig) -> Sequence[Scalar]:
    """All values, or where a range begins and ends."""
    return values_of(dimension) or getattr(dimension, kind_of(dimension))[:2]


def problems_of(source: Source) -> list[Problem]:
    """What is wrong with a spec, sweeps aside."""
    spec, made = diagnose(source, SpecFile)
    found = rules.of_spec(spec) if spec is not None else ()
    return [*made.problems, *(Problem(made.place(k), k, m) for k, m in found)]
