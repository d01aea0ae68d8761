"""Which stages of a plan somebody needs: tokens by trainings, and stages that only trials run."""

from collections.abc import Mapping
from dataclasses import replace

from jobs.graph import tokens_of
from jobs.kinds import references, rows_run
from jobs.planned import StagePlan
from jobs.stages import SearchStage


def if_needed(stage: StagePlan, plans: Mapping[str, StagePlan]) -> StagePlan:
    """Stages that only others use are not made for those that are finished."""
    if stage.cached:
        return stage
    trials = [one for one in plans.values() if stage.name in rows_run(one.written)]
    if stage.kind == "tokens":
        readers = [one for one in plans.values() if tokens_of(one.written) == stage.name]
        if any(is_run(one, plans) for one in readers):
            return stage
        names = " and ".join(f"'{one.name}'" for one in readers)
        return replace(stage, status="not needed", reason=f"{names} made before")
    if trials and not used_alone(stage, plans):
        names = " and ".join(f"'{one.name}'" for one in trials)
        return replace(stage, status="not needed", reason=f"only trials of {names} run it")
    return stage


def is_run(stage: StagePlan, plans: Mapping[str, StagePlan]) -> bool:
    """Whether a stage is to be run, by itself or in trials."""
    trials = [one for one in plans.values() if stage.name in rows_run(one.written)]
    if any(not one.cached for one in trials):
        return True
    return not stage.cached and (not trials or used_alone(stage, plans))


def used_alone(stage: StagePlan, plans: Mapping[str, StagePlan]) -> bool:
    """Whether a stage other than a sweep, or than one that only trials run, names it."""
    users = [
        one
        for one in plans.values()
        if stage.name in references(one.written).values()
        and not isinstance(one.written, SearchStage)
    ]
    rows = [rows_run(one.written) for one in plans.values() if stage.name in rows_run(one.written)]
    return any(
        not any(user.name in row for row in rows) or used_alone(user, plans) for user in users
    )
