"""Text out: the newest model of a spec continues a prompt, also while it is still training."""

from pathlib import Path

from rich.console import Console

from jobs.facts import CHECKPOINTS, Artifact, Facts, gather
from jobs.kinds import MODELS
from jobs.plan import resolve
from jobs.planned import Plan, StagePlan
from jobs.spec import Spec
from jobs.stages import GenerateStage
from llm.config import SamplingConfig
from llm.errors import ArtifactError


def generate(spec: Spec, prompt: str | None, stage: str | None) -> None:
    """Continue a prompt with the newest model of the spec, as it is written."""
    console = Console()
    facts = gather(spec)
    plan = resolve(spec, facts)
    folder, weights, sampling = choose_model(plan, facts, stage, console)
    write_text(folder, weights, "" if prompt is None else prompt, sampling, console)


def choose_model(
    plan: Plan, facts: Facts, name: str | None, console: Console
) -> tuple[Path, Path | None, SamplingConfig]:
    """Folder, weights (None: the finished ones) and sampling to write with."""
    writers = [s for s in plan.stages if s.kind == "generate" and name in (None, s.name)]
    sampling = SamplingConfig()
    models = [s for s in reversed(plan.stages) if s.kind in MODELS and name in (None, s.name)]
    if writers:
        written = plan.spec.stages[writers[0].name]
        assert isinstance(written, GenerateStage)
        sampling = written.sampling
        models = [plan.by_name[written.from_], *models]
    stage = next((s for s in models if has_begun(s, facts)), next(iter(models), None))
    if stage is None:
        names = [s.name for s in plan.stages if s.kind in (*MODELS, "generate")]
        raise ArtifactError(
            f"{plan.spec.origin.file}: no stage {name!r} that writes; there are {names}"
        )
    folder, weights = model_of(plan, stage, facts)
    if weights is not None:
        console.print(f"(unfinished: the model of {weights.parent.name})", style="dim")
    return folder, weights, sampling


def has_begun(stage: StagePlan, facts: Facts) -> bool:
    """Whether a stage has a model, perhaps an unfinished one."""
    found = facts.artifact(stage.name, stage.fingerprint) if stage.fingerprint else None
    return found is not None and (found.manifest is not None or found.step is not None)


def model_of(plan: Plan, stage: StagePlan, facts: Facts) -> tuple[Path, Path | None]:
    """Where a stage's model is, and a checkpoint's weights if it is not finished."""
    found = stage.fingerprint and facts.artifact(stage.name, stage.fingerprint)
    if isinstance(found, Artifact) and found.manifest is not None:
        return found.folder, None
    if isinstance(found, Artifact):
        from llm.checkpoint import newest

        checkpoint = newest(found.folder / CHECKPOINTS)
        if checkpoint is not None:
            return found.folder, checkpoint / "model.safetensors"
    raise ArtifactError(
        f"{plan.spec.origin.file}: stage '{stage.name}' has no model yet; first run\n"
        f"{plan.spec.command('run')}"
    )


def write_text(
    folder: Path, weights: Path | None, prompt: str, sampling: SamplingConfig, console: Console
) -> str:
    """Print a prompt and what the model adds, answers or fills in; returns what it wrote."""
    from llm.artifact import read_network
    from llm.chat_artifact import is_chat
    from llm.complete import complete, writes_on
    from llm.model import Transformer
    from llm.reply import reply_in_pieces

    model, tokenizer = read_network(folder, weights)
    chat = is_chat(folder)
    apart = chat or not writes_on(model)
    console.out(prompt, end="\n" if apart else "", style="bold", highlight=False)
    if chat:
        assert isinstance(model, Transformer)
        written = reply_in_pieces(model, tokenizer, prompt, sampling)
    else:
        written = complete(model, tokenizer, prompt, sampling)
    pieces: list[str] = []
    for piece in written:
        console.out(piece, end="", highlight=False)
        pieces.append(piece)
    console.out("\n")
    return "".join(pieces)
