"""Text out: the newest model of a spec continues a prompt, also while it is still training."""

from pathlib import Path

from rich.console import Console

from jobs.facts import CHECKPOINTS, Artifact, Facts, gather
from jobs.plan import Plan, StagePlan, resolve
from jobs.spec import MODELS, GenerateStage, Spec
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
    writer = next((s for s in plan.stages if s.kind == "generate" and name in (None, s.name)), None)
    sampling = SamplingConfig()
    if writer is not None:
        written = plan.spec.stages[writer.name]
        assert isinstance(written, GenerateStage)
        name, sampling = written.from_, written.sampling
    models = [s for s in plan.stages if s.kind in MODELS]
    stage = next((s for s in reversed(models) if name in (None, s.name)), None)
    if stage is None:
        names = [s.name for s in plan.stages if s.kind in (*MODELS, "generate")]
        raise ArtifactError(
            f"{plan.spec.origin.file}: no stage {name!r} that writes; there are {names}"
        )
    folder, weights = model_of(plan, stage, facts)
    if weights is not None:
        console.print(f"(unfinished: the model of {weights.parent.name})", style="dim")
    return folder, weights, sampling


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
    """Print a prompt and what the model adds or answers, piece by piece; returns what it wrote."""
    from llm.artifact import read_model
    from llm.chat_artifact import is_chat
    from llm.generate import write
    from llm.reply import reply_in_pieces

    model, tokenizer = read_model(folder, weights)
    chat = is_chat(folder)
    console.out(prompt, end="\n" if chat else "", style="bold", highlight=False)
    pieces: list[str] = []
    written = reply_in_pieces if chat else write
    for piece in written(model, tokenizer, prompt, sampling):
        console.out(piece, end="", highlight=False)
        pieces.append(piece)
    console.out("\n")
    return "".join(pieces)
