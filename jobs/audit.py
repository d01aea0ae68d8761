"""What a training was trained on, for people: the proof, a document's steps, a step's content."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from jobs.facts import gather
from jobs.load import load
from jobs.plan import resolve
from llm.errors import ArtifactError


def find_run(target: str, overrides: list[str], stage: str | None) -> Path:
    """The artifact folder that is meant: given itself, by its run, or by the spec that made it."""
    if Path(target).is_dir():
        return newest_training(Path(target), stage)
    spec = load(target, overrides)
    plan = resolve(spec, gather(spec))
    trainings = [one for one in plan.stages if one.kind == "pretrain" and stage in (None, one.name)]
    if not trainings:
        raise ArtifactError(
            f"{target}: has no pretrain stage {stage or ''}; there is none to audit"
        )
    folder = trainings[0].folder
    if folder is None or not (folder / "task.json").exists():
        raise ArtifactError(
            f"{target}: stage '{trainings[0].name}' has not trained yet; first run\n"
            f"{spec.command('run')}"
        )
    return folder


def newest_training(folder: Path, stage: str | None) -> Path:
    """The training in an artifact's, a stage's or a run's folder that was worked on last."""
    tasks = [one for depth in ("", "*/", "*/*/") for one in folder.glob(f"{depth}task.json")]
    found = [one.parent for one in tasks if stage in (None, one.parent.parent.name)]
    if not found:
        what = f"training of a stage {stage!r}" if stage else "training"
        raise ArtifactError(
            f"{folder}: there is no {what} in it; give a spec, or a run's folder such as "
            "runs/quickstart"
        )
    return max(found, key=lambda one: one.stat().st_mtime)


def show_proof(folder: Path, console: Console) -> None:
    """Prove the whole log, and say what was read how often."""
    from llm.audit import audit

    with console.status("drawing the stream once more") as status:
        proof = audit(folder, status.update)
    console.print(
        f"{folder}\nsteps 1 to {proof.steps:,}: each took exactly the sequences that follow those "
        f"of the one before,\n{proof.sequences:,} sequences with {proof.tokens:,} tokens; nothing "
        "is left out, nothing repeated",
        highlight=False,
        soft_wrap=True,
    )
    table = Table()
    for column in ("source", "pass", "documents", "tokens", ""):
        table.add_column(column, justify="right" if column in ("documents", "tokens") else "left")
    for one in proof.passes:
        whole = "all of them, each once" if one.whole else "each once; not at its end"
        numbers = (f"{one.documents:,}", f"{one.tokens:,}")
        table.add_row(one.source, str(one.epoch + 1), *numbers, whole)
    console.print(table)
    sources = dict.fromkeys(one.source for one in proof.passes)
    if len(sources) > 1:
        total = sum(proof.tokens_of(source) for source in sources)
        shares = (f"{source} {proof.tokens_of(source) / total:.2%}" for source in sources)
        console.print(f"shares of the tokens: {', '.join(shares)}", highlight=False)
    console.print(
        f"next: python -m jobs audit {folder} --step 1, or --document ID",
        highlight=False,
        soft_wrap=True,
    )


def show_document(folder: Path, document: str, console: Console) -> None:
    """Which steps saw a document."""
    from llm.trace import steps_of

    seen = steps_of(folder, document)
    if not seen:
        console.print(f"{document}: no step has seen it yet", highlight=False, soft_wrap=True)
    for one in seen:
        line = f"step {one.step}: {one.tokens} of its tokens, in pass {one.epoch + 1}"
        console.print(line, highlight=False)


def show_step(folder: Path, step: int, console: Console) -> None:
    """What was in a step: every sequence, piece by piece, with the names of the documents."""
    from llm.trace import step_content

    sequence = -1
    for part in step_content(folder, step):
        if part.sequence != sequence:
            sequence = part.sequence
            console.rule(f"sequence {sequence + 1}", align="left")
        console.print(part.document, style="bold", markup=False, highlight=False, soft_wrap=True)
        console.print(part.text, markup=False, highlight=False, soft_wrap=True)
