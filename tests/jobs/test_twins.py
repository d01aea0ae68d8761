"""Shipped recipes run whole, each as a tiny twin: the file itself, made small by overrides.

Those without a twin here have one in test_run.py. All runs go by one name into one storage, so
that stages which are the same in two files are run once. jobs/tiny/ are twins to be looked at, of
minutes; here they are smaller still.
"""

import json
import random
from pathlib import Path

import pytest

from jobs.diff import read_run
from jobs.lineage import in_order, lineage
from jobs.load import load
from jobs.run import run
from jobs.spec import Spec
from llm.files import sha256
from tests.llm.foreign import write_foreign
from tests.llm.test_exchange import write_theirs
from tests.tasks import sentence, write_text

JOBS = Path(__file__).parents[2] / "jobs"

MODEL = "stages.pretrain.model={depth: 1, width: 32, heads: 2, context: 64}"
TINY = [
    MODEL,
    *("stages.pretrain.batch=4", "stages.pretrain.steps=2", "stages.pretrain.optim.warmup=1"),
    "stages.pretrain.validate_every=2",
]
PPO = [
    *("stages.ppo.steps=1", "stages.ppo.batch=4", "stages.ppo.minibatch=4"),
    *("stages.ppo.micro_batch=2", "stages.ppo.answer_tokens=4"),
]

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text, conversations and comparisons."""
    folder = tmp_path_factory.mktemp("twins")
    write_text(folder / "text", documents=600)
    source = random.Random(1)
    rows = []
    for number in range(40):
        asked, said = f"{sentence(source)} {number}", sentence(source)
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        rows.append({"messages": turns, "question": asked, "answer": said})
    pairs = [{"prompt": row["question"], "chosen": "wall", "rejected": "men men"} for row in rows]
    for name, made in (("chats", rows), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return folder


def twin(place: Path, file: str, *overrides: str, text: bool = True) -> Spec:
    """Run a shipped file so; what it says."""
    common = [f"storage={place / 'runs'}", "name=twins", "cluster.workers=2"]
    if text:
        shards = f"shards: {place / 'text'}, validation: {{fraction: 0.1, tokens: 512}}"
        common += [f"data={{{shards}}}", "stages.tokenizer.vocab_size=300"]
    spec = load(str(JOBS / file), [*common, *overrides])
    run(spec)
    return spec


def aligned(place: Path, *stages: str) -> list[str]:
    """Data for alignments in place of the files'."""
    chats = {"shards": f"{place}/chats.jsonl"}
    pairs = {"shards": f"{place}/pairs.jsonl"}
    chosen = {stage: pairs if stage in ("reward", "dpo") else chats for stage in stages}
    return [f"stages.{stage}.data=[{json.dumps(data)}]" for stage, data in chosen.items()]


def figures(spec: Spec, stage: str) -> dict:
    """What a stage measured."""
    return dict(read_run(str(spec.folder), [])[stage].metrics)


def test_chat(ray_cluster: None, place: Path) -> None:
    data = aligned(place, "sft", "reward", "dpo", "ppo")
    spec = twin(place, "chat.yaml", *TINY, *PPO, *data, "stages.sft.epochs=1")
    assert figures(spec, "dpo")["steps"] > 0
    assert figures(spec, "ppo")["length"] > 0


def test_loop_with_nothing_said_yet(ray_cluster: None, place: Path) -> None:
    stages = ("sft", "reward", "ppo")
    data = [f"stages.{one}.data.0.shards={place}/chats.jsonl" for one in stages if one != "reward"]
    data += [f"stages.reward.data.0.shards={place}/pairs.jsonl", "stages.sft.epochs=1"]
    spec = twin(place, "loop.yaml", *TINY, *PPO, *data)
    assert 0 < figures(spec, "sft")["conversations"] <= 40
    assert figures(spec, "ppo")["length"] > 0


def test_continue(ray_cluster: None, place: Path) -> None:
    size = write_foreign(place / "theirs", "llama3").get_vocab_size()
    write_theirs(place / "theirs", "llama", size)
    small = ["stages.llama.context=48", "stages.pretrain.tokens=400", "stages.pretrain.batch=4"]
    shards = f"data={{shards: {place / 'text'}, validation: {{fraction: 0.1, tokens: 512}}}}"
    more = [f"stages.llama.folder={place / 'theirs'}", shards, "stages.sft.epochs=1"]
    data = aligned(place, "sft")
    spec = twin(place, "continue.yaml", *small, *more, *data, text=False)
    [written] = (spec.folder / "export").iterdir()
    assert (written / "config.json").exists()


def test_sweep(ray_cluster: None, place: Path) -> None:
    few = ["stages.search.trials=2", "stages.search.scheduler=none", MODEL]
    space = "stages.search.space={pretrain.optim.lr: {loguniform: [1e-3, 1e-2]}}"
    short = ["stages.pretrain.tokens=1024", "stages.pretrain.batch=4", "stages.sft.epochs=1"]
    short += ["stages.pretrain.validate_every=2", "stages.generate.sampling.max_tokens=4"]
    spec = twin(place, "sweep.yaml", *few, space, *short, *aligned(place, "sft"))
    assert figures(spec, "search")["trials"]["done"] == 2


def test_presets(ray_cluster: None, place: Path) -> None:
    names = ("humpty", "gpt2", "llama", "window", "bert", "t5")
    small: list[str] = []
    for name in names:
        small += [f"stages.{name}.steps=4", f"stages.{name}.validate_every=2"]
        small += [f"stages.{name}.batch=4", f"stages.{name}.micro_batch=2"]
    spec = twin(place, "presets.yaml", *small)
    measured = [figures(spec, name) for name in names]
    assert ["bpb" in one for one in measured] == 4 * [True] + 2 * [False]
    report = (spec.folder / "report.html").read_text()
    assert report.count("Bits per byte") and report.count("what is hidden of held-out text")


def test_scaling(ray_cluster: None, place: Path) -> None:
    ladder = ["stages.ladder.depths=[1,2,3]", "stages.ladder.budgets=[5e7,1e8,2e8,4e8]"]
    small = ["stages.pretrain.model={aspect: 8, context: 32}", "stages.pretrain.batch=2"]
    spec = twin(place, "scaling.yaml", *ladder, *small, "cluster.workers=1")
    found = figures(spec, "ladder")
    assert found["trials"]["done"] == 12
    assert found["law"]["text"]
    [report] = (spec.folder / "ladder").glob("*/report.html")
    assert "<svg" in report.read_text()


def test_chatgpt(ray_cluster: None, place: Path) -> None:
    corpus = f"stages.corpus.sources={{text: {{shards: {place / 'text'}}}}}"
    clean = ["stages.corpus.filter={}", "stages.corpus.dedup={}", "stages.corpus.validation=0.1"]
    asked = [f"stages.evaluate.tasks.preferred.shards={place}/pairs.jsonl"]
    asked += ["stages.evaluate.tasks.preferred.limit=8", "stages.evaluate.memorisation.documents=4"]
    asked += [f"stages.evaluate.wins.shards={place}/pairs.jsonl", "stages.evaluate.wins.limit=2"]
    asked += ["stages.evaluate.wins.answer_tokens=4", "stages.sft.epochs=1"]
    data = aligned(place, "sft", "reward", "ppo")
    small = ["stages.tokenizer.vocab_size=300", *TINY, *PPO, corpus, *clean, *asked, *data]
    spec = twin(place, "chatgpt.yaml", *small, text=False)
    [made] = (spec.folder / "evaluate").iterdir()
    rows = json.loads((made / "evaluation.json").read_text())["rows"]
    assert {row["model"] for row in rows} == {"ppo", "sft", "pretrain"}
    chain = {one.name: one for one in in_order(lineage(str(made), []))}
    assert not any(one.broken for one in chain.values())
    read = chain["corpus"].manifest["inputs"]["text"]["files"]
    assert [Path(one["path"]).name for one in read] == ["0.jsonl", "1.jsonl", "2.jsonl"]
    assert read[0]["digest"] == sha256(place / "text" / "0.jsonl")
