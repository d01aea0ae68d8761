"""report.html of a run: its story, every part of it, and what holds when its files do not."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from jobs.cli import app
from jobs.facts import gather
from jobs.load import load
from jobs.plan import resolve
from jobs.report import reported, run_page, write_run_report
from jobs.report_costs import Cost, cost
from jobs.report_read import RunSeen, Seen, read_run
from jobs.report_stages import CHOSEN
from jobs.report_story import story
from jobs.run_record import record_of, write_record
from llm.page import POLICY
from llm.panels import SECTIONS
from tests.llm.test_training_report import HOSTILE, Reader
from tests.made_runs import ANSWERS, EVALUATION, PARENTS, at, lines, made_run, put

HUMPTY = Path(__file__).parents[2] / "jobs" / "humpty.yaml"

SECTIONS_AFTER = ("Evaluation", "Cost and energy", "Lineage", "Environment", "Spec")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made_run(tmp_path)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without drawings, which are made thirty times as fast."""
    monkeypatch.setattr("llm.training_report.draw_panel", lambda panel, log: "<svg></svg>")


def html_of(folder: Path) -> str:
    return write_run_report(folder).read_text()


def test_the_story_is_told_in_sentences_from_what_the_stages_left(folder: Path) -> None:
    assert list(story(read_run(folder))) == [
        "Of 1,000 documents 900 were kept; most others were dropped for exact duplicate (70), "
        "language (30); 2.5 MB are left to train on.",
        "A tokenizer of 512 tokens cuts the text into pieces of 2.50 bytes on average.",
        "A decoder of 2 layers and 1M parameters was trained on 1M tokens in 20 steps; the bits "
        "that a byte of held-out text costs went from 4 to 2.",
        "It learned to answer from conversations in 20 steps; the loss on held-out answers went "
        "from 3.5 to 2.5.",
        "A reward model learned from comparisons in 20 steps; it knows the better answer in 75% "
        "of held-out pairs (66% to 82%).",
        "PPO let it find out which answers earn most in 20 steps; the reward of its answers went "
        "from 0.14 to 0.9, 2.5 nats away from where it began.",
        "On the way pretrain fell 1 time, 2 steps redone, 1m 50s lost, goodput 96.9%.",
        "All of it took 1h 33m of work.",
    ]


def test_every_stage_and_every_section_is_there_and_navigation_leads_to_it(folder: Path) -> None:
    html = html_of(folder)
    page = Reader(html)
    assert page.open == []
    for heading in (*PARENTS, *SECTIONS_AFTER, "Who answers what"):
        assert f"<h2>{heading}" in html
    for at_ in range(len(PARENTS) + len(SECTIONS_AFTER) + 1):
        assert f'id="part-{at_}"' in html and f'href="#part-{at_}"' in html
    assert {"Loss", "Bits per byte", "Reward", "Divergence", "KL coefficient"} <= set(page.titles)
    for text in ("had a great fall", "worker 1 was killed", "KL is high", "我是蛋", "exact duplic"):
        assert text in html
    assert "cannot be shown" not in html and "could not be read" not in html


@pytest.mark.usefixtures("undrawn")
def test_a_page_needs_nothing_else(folder: Path) -> None:
    html = html_of(folder)
    page = Reader(html)
    assert POLICY in html
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)


@pytest.mark.usefixtures("undrawn")
def test_a_stage_that_has_a_report_of_its_own_is_linked_to(folder: Path) -> None:
    (at(folder, "sft") / "report.html").write_text("x")
    assert f"sft/{at(folder, 'sft').name}/report.html" in Reader(html_of(folder)).links


def test_panels_that_are_chosen_exist() -> None:
    assert set(CHOSEN) <= {panel.title for panels in SECTIONS.values() for panel in panels}


# -- what may be wrong with files ------------------------------------------------------------------

GARBAGE = {
    "binary": b"\x80\xff\x00{",
    "cut off": b'{"a": [1, ',
    "deep": b"[" * 100_000,
    "a number": b"7",
    "foreign": b'{"event": "step", "rows": 3, "sources": "x", "spec": 1, "stages": [1, {}]}\n',
    "lists": b'[{"prompt": 3, "answers": [1]}, 4, null]',
    "an odd log": b'{"event": "sample", "step": 1}\n{"event": "start", "step": 0}\n'
    b'{"event": "step", "step": 2, "loss": "low"}\n{"event": "guard", "step": 3}\n',
}

FILES = {
    "run.json": "",
    "corpus": "ledger.json",
    "pretrain": "manifest.json",
    "sft": "metrics.jsonl",
    "reward": "events.jsonl",
    "ppo": "answers.json",
    "evaluate": "evaluation.json",
}


def spoil(folder: Path, stage: str, kind: str) -> None:
    path = at(folder, stage) / FILES[stage] if FILES[stage] else folder / stage
    path.write_bytes(GARBAGE[kind])


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("kind", GARBAGE)
@pytest.mark.parametrize("stage", FILES)
def test_a_bad_file_costs_its_own_part_alone(folder: Path, stage: str, kind: str) -> None:
    spoil(folder, stage, kind)
    html = html_of(folder)
    assert Reader(html).open == []
    for other in PARENTS.keys() - {stage}:
        assert f"<h2>{other}" in html
    for heading in ("Cost and energy", "Lineage", "Environment", "Spec"):
        assert f"<h2>{heading}" in html


@pytest.mark.parametrize("kind", GARBAGE)
def test_there_is_a_page_even_if_every_file_is_bad(folder: Path, kind: str) -> None:
    for stage in FILES:
        spoil(folder, stage, kind)
    html = html_of(folder)
    assert Reader(html).open == []
    assert "<h2>reward" in html and "<h2>Environment" in html


TOLD = {
    "corpus": "ledger.json could not be read",
    "pretrain": "manifest.json could not be read",
    "sft": "metrics.jsonl: 1 of 1 lines could not be read",
    "ppo": "answers.json could not be read",
    "evaluate": "evaluation.json could not be read",
    "run.json": "run.json could not be read",
}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("stage", TOLD)
def test_the_page_says_which_file_could_not_be_read(folder: Path, stage: str) -> None:
    path = at(folder, stage) / FILES[stage] if FILES[stage] else folder / stage
    path.write_bytes(b'{"a": \xff\n')
    html = html_of(folder)
    assert TOLD[stage] in html
    assert not any(text in html for other, text in TOLD.items() if other != stage)


@pytest.mark.usefixtures("undrawn")
def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    name = "<b>x"
    folder = made_run(tmp_path, name=name)
    put(at(folder, "ppo") / "answers.json", [{"prompt": HOSTILE, "answers": {HOSTILE: HOSTILE}}])
    row = {**EVALUATION["rows"][0], "model": HOSTILE, "task": HOSTILE, "unit": HOSTILE}
    put(
        at(folder, "evaluate") / "evaluation.json",
        {"rows": [row], "differences": [{HOSTILE: HOSTILE}]},
    )
    manifest = json.loads((at(folder, "tokenizer") / "manifest.json").read_text())
    manifest |= {"kind": HOSTILE, "code": {HOSTILE: HOSTILE}, "parents": {HOSTILE: HOSTILE}}
    put(at(folder, "tokenizer") / "manifest.json", manifest)
    log = [{"event": "sample", "step": 1, "prompt": HOSTILE, "text": HOSTILE}]
    lines(at(folder, "sft") / "metrics.jsonl", log)
    html = html_of(folder)
    page = Reader(html)
    assert page.open == []
    assert not {"script", "img"} & set(page.tags)
    assert "\u202e" not in html and "\x00" not in html and "<b>x" not in html
    assert html.count("[U+202E]") >= 10


# -- runs that are not finished --------------------------------------------------------------------


def test_a_run_that_was_broken_off_says_where_it_stands(folder: Path) -> None:
    (at(folder, "ppo") / "manifest.json").unlink()
    for path in at(folder, "evaluate").iterdir():
        path.unlink()
    at(folder, "evaluate").rmdir()
    [*_, last] = story(read_run(folder))
    assert last == (
        "After 1h 16m of work it is not done; ppo is broken off at step 20 of 20; still to come: "
        "evaluate."
    )


@pytest.mark.usefixtures("undrawn")
def test_without_run_json_the_newest_artifact_of_each_stage_is_told_of(folder: Path) -> None:
    (folder / "run.json").unlink()
    names = {one.name: one.state for one in read_run(folder).stages}
    assert names == dict.fromkeys(PARENTS, "finished")
    assert "<h2>ppo" in html_of(folder)


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_fails_has_a_report_and_fails_all_the_same(folder: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        Console(quiet=True) as console,
        reported(folder, console),
    ):
        raise KeyboardInterrupt
    assert "<h2>ppo" in (folder / "report.html").read_text()


def test_a_report_that_cannot_be_written_does_not_hide_why_the_run_ended(folder: Path) -> None:
    (folder / "report.html").mkdir()
    console = Console(record=True, width=200, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    with pytest.raises(ZeroDivisionError), reported(folder, console):
        raise ZeroDivisionError
    assert "report: could not be written" in console.export_text()


def test_a_run_that_has_begun_nothing_has_no_report(tmp_path: Path) -> None:
    with Console(quiet=True) as console, reported(tmp_path / "run", console):
        pass
    assert not (tmp_path / "run").exists()


# -- what the run says of itself -------------------------------------------------------------------


def test_run_json_tells_every_stage_before_any_has_run(tmp_path: Path) -> None:
    spec = load(str(HUMPTY), [f"storage={tmp_path}", "cluster.price=2"])
    plan = resolve(spec, gather(spec))
    spec.folder.mkdir(parents=True)
    write_record(plan, 5.0)
    run = read_run(spec.folder)
    assert [one.name for one in run.stages] == [stage.name for stage in plan.stages]
    assert {one.state for one in run.stages} <= {"not begun", "started by `serve`"}
    assert run.cluster["price"] == 2 and run.record["overrides"][1] == "cluster.price=2"
    assert json.loads(json.dumps(record_of(plan, 5.0)))["began"] == 5.0
    assert Reader(run_page(run)).open == []


# -- costs -----------------------------------------------------------------------------------------


def test_costs_are_hours_times_workers_times_price() -> None:
    two = Cost("x", seconds=1800.0, workers=4, gpus=0, cores=3)
    assert two.hours == 2.0  # half an hour of four workers
    assert two.energy == pytest.approx(0.06)  # 0.5 h x 4 x 3 cores x 10 W
    gpus = Cost("x", seconds=3600.0, workers=2, gpus=2, cores=8)
    assert gpus.hours == 4.0
    assert gpus.energy == pytest.approx(2.8)  # 1 h x 2 x 2 GPUs x 700 W


def test_a_training_costs_the_workers_that_it_ran_on() -> None:
    cluster = {"cluster": {"workers": [1, 8], "cpus_per_worker": 2}}
    log = ({"event": "start", "step": 0, "workers": 3},)
    seen = Seen("x", "pretrain", "finished", manifest={"seconds": 10.0}, log=log)
    run = RunSeen(Path("x"), "x", (seen,), {"spec": cluster})
    assert cost(run, seen).workers == 3
    assert cost(run, Seen("y", "corpus", "finished")).workers == 8


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_cost_and_energy_are_estimates_and_how_they_are_made(folder: Path) -> None:
    html = html_of(folder)
    assert "An estimate, nothing here was metered." in html
    assert "$1.5 for the hour of a worker (cluster.price)" in html
    assert "$3.00" in html  # pretrain: an hour of two workers
    without = html_of(made_run(folder.parent / "other", price=0))
    assert "No price is given (cluster.price)" in without and "$" not in without


# -- size ------------------------------------------------------------------------------------------


def test_a_hundred_thousand_steps_make_a_page_of_less_than_a_megabyte(folder: Path) -> None:
    steps = 100_000
    common = {"event": "step", "steps": steps, "lr": 1e-3}
    log = [
        {"event": "start", "step": 0, "steps": steps, "workers": 2, "parameters": 7, "time": 0.0},
        *(
            {**common, "step": n, "loss": 3 + n * 7919 % 101 / 50, "grad_norm": n * 31 % 17}
            for n in range(1, steps + 1)
        ),
    ]
    lines(at(folder, "pretrain") / "metrics.jsonl", log)
    html = html_of(folder)
    assert len(html.encode()) < 1_000_000
    assert "100,000 steps" in html


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_the_command_writes_the_report_of_a_folder(folder: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert done.exit_code == 0 and done.output.strip() == str(folder / "report.html")
    assert ANSWERS[0]["prompt"] in (folder / "report.html").read_text()


def test_the_command_says_what_it_wants_of_a_folder_without_a_run(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 1
    assert "holds no stage of a run" in done.output
