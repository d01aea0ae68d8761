"""Evaluations: what cannot be, what runs again, and that a broken-off one goes on."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from jobs.facts import gather
from jobs.load import load
from jobs.plan import resolve
from jobs.planned import Plan
from jobs.show import show
from jobs.spec import Spec
from jobs.stages import EvaluateStage
from llm.errors import DataError, SpecError
from tests.deploy.tiny import TEXTS, write_folder

SPEC = """\
name: measured
cluster: {workers: 1, cpus_per_worker: 1}
data: {shards: text.txt}
stages:
  tokenizer: {kind: tokenizer, vocab_size: 1000}
  pretrain:
    {kind: pretrain, tokenizer: tokenizer, model: {depth: 2, context: 64}, steps: 9, batch: 8}
  sft: {kind: sft, from: pretrain, data: [{shards: chats.jsonl}]}
  reward: {kind: reward, from: sft, data: [{shards: pairs.jsonl}]}
  bert: {kind: pretrain, tokenizer: tokenizer, model: {family: encoder}}
  evaluate:
    kind: evaluate
    from: sft
    also: pretrain
    reward: reward
    text: {verse: {shards: text.txt, bytes: 2000}}
    tasks: {quiz: {shards: quiz.jsonl, schema: choices, limit: 50}}
    wins: {shards: prompts.jsonl, limit: 20}
    memorisation: {}
    associations: {}
    toxicity: {shards: prompts.jsonl, words: words.txt}
"""

LoadSpec = Callable[..., Spec]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadSpec:
    files = {
        "x.yaml": SPEC,
        "text.txt": "Once upon a time.\n" * 50,
        "chats.jsonl": '{"messages": []}\n',
        "pairs.jsonl": '{"prompt": "a", "chosen": "b", "rejected": "c"}\n',
        "quiz.jsonl": '{"query": "a", "choices": ["b", "c"], "gold": 1}\n',
        "prompts.jsonl": '{"prompt": "a"}\n',
        "words.txt": "damned\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: load("x.yaml", overrides)


def planned(spec: Spec) -> Plan:
    return resolve(spec, gather(spec))


def fingerprints(plan: Plan) -> dict[str, str | None]:
    return {stage.name: stage.fingerprint for stage in plan.stages}


def task(**options: Any) -> str:
    return f"stages.evaluate.tasks.quiz={json.dumps({'shards': 'quiz.jsonl', **options})}"


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["stages.evaluate.from=bert"], "'bert' is of family encoder"),
        (["stages.evaluate.reward=sft"], "'sft' is a sft stage"),
        (["stages.evaluate.reward=null"], "evaluate.reward: missing: for wins, name a reward stag"),
        (["stages.evaluate.also=[]"], "evaluate.also: missing: for wins, a model whose answers"),
        (["stages.evaluate.wins=null"], "evaluate.reward: has no effect without wins"),
        (
            ["stages.evaluate.wins.judge={url: 'http://h/v1', model: m}"],
            "evaluate.reward: has no place beside wins.judge",
        ),
        (
            ["stages.evaluate.reward=null", "stages.evaluate.wins.judge={url: h, model: m}"],
            "evaluate.wins.judge.url: 'h' is not allowed; must begin with http",
        ),
        (
            [
                "stages.evaluate.reward=null",
                "stages.evaluate.wins.judge={url: 'http://h', model: m, prompt: '{question}'}",
            ],
            "evaluate.wins.judge.prompt: lacks {first}, {second}",
        ),
        ([task(schema="hellaswog")], "did you mean 'hellaswag'?"),
        ([task(schema="template", prompt="{q}")], "quiz.answer: missing"),
        ([task(schema="template", answer="{q}")], "quiz.prompt: missing"),
        ([task(schema="arc", prompt="{q}")], "quiz.prompt: has no effect with schema arc"),
        ([task(schema="gsm8k", measure="choice")], "quiz.measure: choice is not allowed: rows of"),
        ([task(schema="blimp", measure="write")], "quiz.measure: write is not allowed"),
        ([task(schema="winogrande", chat=True)], "quiz.chat: true is not allowed"),
        ([task(schema="gsm8k", extract="####")], "quiz.extract: '####' has no group"),
        ([task(schema="gsm8k", extract="(")], "quiz.extract: '(' is no regular expression"),
        ([task(schema="arc", shots_from="quiz.jsonl")], "quiz.shots_from: has no effect without"),
        ([task(schema="arc", columns={"qestion": "q"})], "did you mean 'question'?"),
        (
            ["stages.evaluate.tasks.quiz={shards: 'pydoc://', schema: arc}"],
            "quiz.shards: pydoc:// stands alone, with `schema: pairs` or",
        ),
        (
            ["stages.evaluate.tasks={verse: {shards: quiz.jsonl, schema: arc}}"],
            "tasks.verse: 'verse' is the name of text already",
        ),
        (
            ["stages.evaluate.tasks={toxicity: {shards: quiz.jsonl, schema: arc}}"],
            "'toxicity' is the name of something else that is measured already",
        ),
        (
            ["stages.evaluate.tasks={'a b': {shards: quiz.jsonl, schema: arc}}"],
            "'a b' is not allowed; use letters",
        ),
        (["stages.evaluate.text.verse.encoding=utf-9"], "evaluate.text.verse.encoding"),
        (
            [
                "stages.evaluate.associations.own="
                "{a: {templates: [x], first: [a], second: [b], endings: [c, d]}}"
            ],
            "own.a.templates.0: 'x' has no {}",
        ),
    ],
)
def test_what_cannot_be_is_told(spec: LoadSpec, overrides: list[str], complaint: str) -> None:
    with pytest.raises(SpecError) as error:
        spec(*overrides)
    assert complaint in str(error.value)
    assert error.value.exit_code == 2


def test_an_evaluation_of_nothing_is_none(tmp_path: Path) -> None:
    path = tmp_path / "y.yaml"
    path.write_text(SPEC.split("    reward: reward")[0].replace("    also: pretrain\n", ""))
    with pytest.raises(SpecError, match="missing: something to measure"):
        load(str(path))


def test_missing_data_is_told_with_its_line(spec: LoadSpec, tmp_path: Path) -> None:
    (tmp_path / "quiz.jsonl").unlink()
    with pytest.raises(DataError, match=r"x\.yaml:17: stages\.evaluate\.tasks\.quiz\.shards: .*"):
        planned(spec())


def test_content_counts_and_its_place_does_not(spec: LoadSpec, tmp_path: Path) -> None:
    before = fingerprints(planned(spec()))
    copy = tmp_path / "copy" / "quiz.jsonl"
    copy.parent.mkdir()
    copy.write_bytes((tmp_path / "quiz.jsonl").read_bytes())
    moved = "stages.evaluate.tasks.quiz.shards=copy/quiz.jsonl"
    assert fingerprints(planned(spec(moved))) == before
    copy.write_text('{"query": "b", "choices": ["b", "c"], "gold": 1}\n')
    after = fingerprints(planned(spec(moved)))
    assert {name for name in before if before[name] != after[name]} == {"evaluate"}
    after = fingerprints(planned(spec("stages.evaluate.tasks.quiz.limit=7")))
    assert {name for name in before if before[name] != after[name]} == {"evaluate"}
    (tmp_path / "words.txt").write_text("other\n")
    assert fingerprints(planned(spec()))["evaluate"] != before["evaluate"]


def test_paths_start_from_the_file_that_names_them(
    spec: LoadSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    shots = "stages.evaluate.tasks.quiz={shards: a, schema: arc, shots: 1, shots_from: b}"
    stage = load(str(tmp_path / "x.yaml")).stages["evaluate"]
    assert isinstance(stage, EvaluateStage) and stage.toxicity and stage.wins
    assert stage.tasks["quiz"].shards == (str(tmp_path / "quiz.jsonl"),)
    assert stage.text["verse"].shards == (str(tmp_path / "text.txt"),)
    assert stage.wins.shards == stage.toxicity.shards == (str(tmp_path / "prompts.jsonl"),)
    assert stage.toxicity.words == str(tmp_path / "words.txt")
    stage = load(str(tmp_path / "x.yaml"), [shots]).stages["evaluate"]
    assert isinstance(stage, EvaluateStage)
    assert stage.tasks["quiz"].shots_from == ("/b",)  # on the command line: from here


def test_the_plan_tells_what_will_be_measured(spec: LoadSpec) -> None:
    text = io.StringIO()
    show(planned(spec()), Console(file=text, width=80))
    shown = text.getvalue()
    assert "models        sft, pretrain" in shown
    assert "choices, the first 50" in shown
    assert "judged by" in shown
    assert "100 documents of its training" in shown


# -- the work --------------------------------------------------------------------------------------


class Interrupted(Exception):
    """As if the power failed."""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stage of two models that are there, asked in this process."""
    from llm.evaluate_config import MeasuredTextConfig, TaskConfig, ToxicityConfig
    from llm.examinee import Desk

    lines = (json.dumps({"prompt": text, "text": text}) + "\n" for text in TEXTS)
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    (tmp_path / "words.txt").write_text("egg\n")
    quiz = (
        {"query": text[:9], "choices": [text[9:], "zzz"], "gold": n % 2}
        for n, text in enumerate(TEXTS)
    )
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in quiz))
    rows = (str(tmp_path / "rows.jsonl"),)
    stage = EvaluateStage(
        kind="evaluate",
        from_="chat",
        also=("plain",),
        text={"verse": MeasuredTextConfig(shards=rows)},
        tasks={"quiz": TaskConfig(shards=(str(tmp_path / "quiz.jsonl"),), schema="choices")},
        toxicity=ToxicityConfig(shards=rows, words=str(tmp_path / "words.txt"), answer_tokens=4),
    )
    folders = {
        "from": write_folder(tmp_path / "chat"),
        "also.0": write_folder(tmp_path / "plain", chat=False),
    }
    calls: list[tuple[str, str]] = []
    made = SimpleNamespace(
        folder=tmp_path / "evaluation",
        stage=SimpleNamespace(stage=stage, name="evaluate"),
        plan=SimpleNamespace(cluster=None, spec=SimpleNamespace(name="run")),
        console=Console(file=io.StringIO(), width=100),
        fence=lambda: True,
        parent=folders.__getitem__,
        say=lambda text: None,
        calls=calls,
        most=10**6,
    )
    desk = Desk()

    @contextmanager
    def desks(*_: Any) -> Iterator[Any]:
        def ask(verb: str, folder: Path, items: Any, how: Any = None) -> list[Any]:
            if len(calls) >= made.most:
                raise Interrupted
            calls.append((verb, folder.name))
            return desk.ask(verb, folder, items, how)

        yield SimpleNamespace(ask=ask)

    monkeypatch.setattr("cluster.evaluate.desks", desks)
    return made


EVERY = [
    ("texts", "chat"),
    ("texts", "plain"),
    ("likelihoods", "chat"),
    ("likelihoods", "plain"),
    ("write", "chat"),
    ("write", "plain"),
]


def test_every_model_is_asked_everything_once(work: Any) -> None:
    from jobs.perform_evaluate import evaluate

    metrics = evaluate(work)
    assert work.calls == EVERY
    evaluation = json.loads((work.folder / "evaluation.json").read_text())
    found = {(row["task"], row["metric"], row["model"]): row for row in evaluation["rows"]}
    assert metrics["figures"] == len(evaluation["rows"]) == len(found)
    assert {task for task, _, _ in found} == {"verse", "quiz", "toxicity"}
    bits = found["verse", "bits_per_byte", "chat"]
    assert bits["low"] < bits["value"] < bits["high"]
    assert metrics["evaluated"]["verse.bits_per_byte"] == bits["value"]
    assert {row["other"] for row in evaluation["differences"]} == {"plain"}
    shown = work.console.file.getvalue()
    assert "bits per byte" in shown
    assert "plain" in shown
    assert (work.folder / "report.html").exists()


def test_a_broken_off_evaluation_goes_on_with_what_is_missing(work: Any) -> None:
    from jobs.perform_evaluate import evaluate

    work.most = 3
    with pytest.raises(Interrupted):
        evaluate(work)
    assert not (work.folder / "evaluation.json").exists()
    work.most = 10**6
    evaluate(work)
    assert work.calls == EVERY


# -- a whole run -----------------------------------------------------------------------------------

WHOLE = """\
name: whole
seed: 3
cluster: {workers: 1, cpus_per_worker: 1}
stages:
  corpus: {kind: corpus, sources: {verse: {shards: text}}, validation: 0.2}
  tokenizer: {kind: tokenizer, corpus: corpus, model: char}
  pretrain:
    kind: pretrain
    tokenizer: tokenizer
    corpus: corpus
    model: {depth: 1, width: 32, heads: 2, context: 32}
    batch: 4
    steps: 4
    optim: {warmup: 1}
  more: {kind: pretrain, from: pretrain, corpus: corpus, batch: 4, steps: 2, optim: {warmup: 1}}
  evaluate:
    kind: evaluate
    from: more
    also: pretrain
    corpus: corpus
    tasks: {quiz: {shards: quiz.jsonl, schema: cloze}}
    memorisation: {documents: 6, prompt_tokens: 4, answer_tokens: 4}
    associations: {lists: [gender_en]}
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_ends_with_its_evaluation(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.run import run
    from tests.tasks import write_text

    write_text(tmp_path / "text", documents=300)
    (tmp_path / "whole.yaml").write_text(WHOLE)
    quiz = [
        {"context": "the king", "continuation": "and"},
        {"context": "all", "continuation": "men"},
    ]
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in quiz))
    monkeypatch.chdir(tmp_path)
    spec = load("whole.yaml")
    run(spec)
    (folder,) = (spec.folder / "evaluate").iterdir()
    rows = json.loads((folder / "evaluation.json").read_text())["rows"]
    assert {row["task"] for row in rows} == {"corpus-verse", "quiz", "memorisation", "gender_en"}
    assert {row["model"] for row in rows} == {"more", "pretrain"}
    assert {"memorised", "memorised_held_out"} <= {row["metric"] for row in rows}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert 0 < manifest["metrics"]["evaluated"]["corpus-verse.bits_per_byte"] < 10
    assert planned(spec).by_name["evaluate"].status == "cached"
