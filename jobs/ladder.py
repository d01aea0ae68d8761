"""A scaling ladder as a sweep: every depth on every rung, with as many tokens as it affords."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs import auto
from jobs.point import laid_over
from jobs.stages import PretrainStage, ScalingStage
from jobs.trial import TrialRun
from llm.errors import TrainingError
from llm.metrics import quantity
from llm.size import active_parameters, flops_per_token
from tune.actor import Report
from tune.config import DimensionConfig, SweepConfig
from tune.scaling import LEAST, Scaling, Training
from tune.scaling_report import END
from tune.space import Point
from tune.trials import Trial

FLOPS = "flops"
"""Of a point: what the training may cost."""


def ladder_of(stage: ScalingStage) -> SweepConfig:
    """All trainings of the ladder; the cheapest rungs first."""
    space = {
        FLOPS: DimensionConfig(grid=tuple(sorted(stage.budgets))),
        f"{stage.of}.model.depth": DimensionConfig(grid=stage.depths),
    }
    return SweepConfig(
        space=space,
        metric="loss",
        search="grid",
        scheduler="none",
        concurrent=stage.concurrent,
        each=stage.each,
    )


@dataclass(frozen=True)
class Rung:
    """What Ray Tune calls for every training: one size, and the tokens that the rung affords."""

    trial: TrialRun
    of: str
    vocab: int

    def __call__(self, point: Point, folder: Path, report: Report) -> Mapping[str, float]:
        """Train; the figures, and what the training was."""
        flops = float(point[FLOPS])
        depth = {path: value for path, value in point.items() if path != FLOPS}
        source = self.trial.spec.origin.source
        for key in ("steps", "tokens"):
            source = laid_over(source, f"{self.of}.{key}", "auto")
        origin = replace(self.trial.spec.origin, source=source)
        trial = replace(self.trial, spec=replace(self.trial.spec, origin=origin))
        stage = trial.spec_of(depth, report.seed, folder).stages[self.of]
        assert isinstance(stage, PretrainStage)
        model = auto.model(stage.model)
        tokens = max(1, round(flops / flops_per_token(model, self.vocab)))
        figures = trial({**depth, f"{self.of}.tokens": tokens}, folder, report)
        size = active_parameters(model, self.vocab)
        return {**figures, "parameters": size, "afforded": tokens, FLOPS: flops}


def trainings_of(trials: Sequence[Trial]) -> list[Training]:
    """What the law is fitted to."""
    done = [trial.result["metrics"] for trial in trials if trial.status == "done"]
    if len(done) < LEAST:
        failed = next(trial for trial in trials if trial.status == "failed")
        raise TrainingError(
            f"only {len(done)} trainings of the ladder came to their end, {LEAST} are needed; "
            f"{failed.folder}: {failed.result['error']}"
        )
    return [Training(one["parameters"], one["afforded"], one[FLOPS], one["loss"]) for one in done]


def one_sided(scaling: Scaling) -> str:
    """What to say where the best size lies outside the depths tried."""
    side = scaling.one_sided
    if not side:
        return ""
    return (
        f"on every rung the {END[side]} model does best, so no size can be recommended; try "
        f"{side} models, or {'larger' if side == 'smaller' else 'smaller'} budgets"
    )


def law_of(scaling: Scaling) -> dict[str, Any]:
    """The law for the manifest."""
    best, law, held_out = scaling.best, scaling.law, scaling.held_out
    text = one_sided(scaling) or (
        f"{quantity(best.flops)} FLOPs are best spent on {quantity(best.parameters)} parameters "
        f"and {quantity(best.tokens)} tokens, for a loss of {best.loss:.4g}"
    )
    if held_out:
        text += (
            f"; of the largest rung the others foretold the best loss {held_out.at_best:.1%} "
            f"wrong, those of its other sizes {held_out.worst:.1%} at most"
        )
    return {
        "text": text,
        "E": law.E,
        "A": law.A,
        "B": law.B,
        "alpha": law.alpha,
        "beta": law.beta,
        "parameters": best.parameters,
        "tokens": best.tokens,
        "loss": best.loss,
        "held_out_error": held_out.at_best if held_out else None,
        "held_out_worst": held_out.worst if held_out else None,
    }
