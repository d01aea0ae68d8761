"""What each stage is given and what is kept of it, with stand-ins for the work on the cluster."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobs import stage_run as jobs_run
from jobs.load import load
from jobs.run import run
from jobs.spec import Spec
from llm.config import DataConfig, ValidationConfig
from llm.corpus_config import CorpusConfig
from llm.errors import ArtifactError, DataError

SPEC = """\
name: small
storage: runs
stages:
  corpus:
    kind: corpus
    sources: {web: {shards: web.jsonl}, wiki: {shards: wiki.txt}}
  tokenizer: {kind: tokenizer, corpus: corpus, vocab_size: 300}
  pretrain:
    kind: pretrain
    corpus: corpus
    tokenizer: tokenizer
    model: {depth: 1, context: 32}
    batch: 4
    steps: 20
"""

WEIGHTS = ["stages.corpus.sources.web.weight=1", "stages.corpus.sources.wiki.weight=3"]


@dataclass
class Cluster:
    """Stands in for all work on the cluster: notes what is asked for, leaves what is expected."""

    held_out: int = 2
    train: dict[str, int] = field(default_factory=lambda: {"web": 5, "wiki": 7})
    calls: list[str] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)

    def make_corpus(
        self, config: CorpusConfig, folder: Path, seed: int, say: Callable[[str], None]
    ) -> dict[str, Any]:
        say("read 1/1 portions")
        sources = {
            name: {
                "weight": None,
                "train": {"documents": documents, "bytes": 10 * documents},
                "validation": {"documents": self.held_out, "bytes": 10 * self.held_out},
            }
            for name, documents in self.train.items()
        }
        (folder / "corpus.json").write_text(json.dumps({"sources": sources, "shards": []}))
        self.note("corpus", config=config, folder=folder, seed=seed)
        return {"documents": 16, "kept": 12, "dropped": {"exact duplicate": 3, "language": 1}}

    def train_tokenizer(
        self, data: DataConfig, config: object, seed: int, path: Path
    ) -> SimpleNamespace:
        path.write_bytes(b"model")
        self.note("tokenizer", data=data)
        return SimpleNamespace(
            vocab_size=300, bytes_per_token=2.5, coverage=1.0, measured_on="held-out"
        )

    def make_tokens(
        self, data: DataConfig, tokenizer: Path, folder: Path, say: Callable[[str], None]
    ) -> dict[str, int]:
        self.note("tokens", data=data, tokenizer=tokenizer, folder=folder)
        return {"tokens": 1234, "documents": 12, "bytes": 120, "units": 1}

    def pretrain(self, task: Any, cluster: object, watch: object, fence: object) -> dict[str, Any]:
        self.note("pretrain", task=task)
        (Path(task.folder) / "metrics.jsonl").write_text('{"event": "end", "step": 20}\n')
        return {"bpb": 1.5, "passes": {"web": 1.0, "wiki": 2.345}}

    def note(self, name: str, **given: Any) -> None:
        self.calls.append(name)
        self.given |= given


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cluster:
    made = Cluster()
    modules = {
        "corpus": {"make_corpus": made.make_corpus},
        "tokens": {"make_tokens": made.make_tokens},
        "tokenizer": {"train_tokenizer": made.train_tokenizer},
        "train": {"pretrain": made.pretrain},
    }
    for name, functions in modules.items():
        monkeypatch.setitem(sys.modules, f"cluster.{name}", SimpleNamespace(**functions))
    monkeypatch.setattr(jobs_run, "start_ray", lambda *_: None)
    monkeypatch.setattr(jobs_run, "require_fit", lambda work: None)
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(SPEC)
    Path("web.jsonl").write_text('{"text": "a page"}\n')
    Path("wiki.txt").write_text("an article\n")
    return made


def spec(*overrides: str) -> Spec:
    return load("x.yaml", overrides)


def folder_of(spec: Spec, stage: str) -> Path:
    [folder] = (spec.folder / stage).iterdir()
    return folder


def test_the_whole_story_runs_once_and_in_order(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    run(spec("stages.pretrain.cache=true"))
    assert cluster.calls == ["corpus", "tokenizer", "tokens", "pretrain"]
    told = capsys.readouterr().out
    assert "read 1/1 portions" in told
    assert "kept 12 of 16 documents; dropped 3 by exact duplicate, 1 by language" in told
    assert "12 documents to train on, 120 B" in told
    assert "passes over web 1, wiki 2.35" in told
    run(spec("stages.pretrain.cache=true"))
    assert len(cluster.calls) == 4


def test_stages_read_the_shards_of_their_corpus(cluster: Cluster) -> None:
    made = spec()
    run(made)
    corpus = folder_of(made, "corpus")
    assert cluster.given["task"].data == DataConfig(
        shards=(str(corpus / "train"),),
        format="parquet",
        validation=ValidationConfig(shards=(str(corpus / "validation"),), fraction=0),
    )
    assert cluster.given["data"] == cluster.given["task"].data
    manifest = json.loads((corpus / "manifest.json").read_text())
    assert manifest["metrics"] == {
        "documents": 16,
        "kept": 12,
        "dropped": {"exact duplicate": 3, "language": 1},
        "train_documents": 12,
        "train_bytes": 120,
    }


def test_a_corpus_that_holds_out_nothing_measures_nothing(cluster: Cluster) -> None:
    cluster.held_out = 0
    run(spec("data={shards: none, validation: {tokens: 99}}"))
    assert cluster.given["task"].data.validation == ValidationConfig(fraction=0, tokens=99)


def test_the_corpus_gets_its_config_with_the_files_of_python_itself(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_pydoc(folder: Path) -> list[Path]:
        folder.mkdir(parents=True)
        return [folder / "part-00000.parquet"]

    monkeypatch.setattr("llm.pydoc_source.write_pydoc", write_pydoc)
    made = spec("stages.corpus.sources.web.shards=pydoc://", "seed=5")
    run(made)
    config = cluster.given["config"]
    assert type(config) is CorpusConfig
    [shards] = config.sources["web"].shards
    assert Path(shards).parent.parent == Path(made.storage)
    assert shards.endswith("*.parquet")
    assert config.sources["wiki"].shards == (str(Path("wiki.txt").absolute()),)
    assert cluster.given["seed"] == 5


def test_a_training_gets_the_kept_tokens_and_the_weights(cluster: Cluster) -> None:
    made = spec("stages.pretrain.cache=true", *WEIGHTS)
    run(made)
    task, tokens = cluster.given["task"], folder_of(made, "corpus.tokenizer")
    assert (task.weights, task.tokens) == ({"web": 1.0, "wiki": 3.0}, str(tokens))
    assert cluster.given["tokenizer"] == folder_of(made, "tokenizer") / "tokenizer.model"


def test_without_cache_and_weights_a_training_gets_neither(cluster: Cluster) -> None:
    run(spec())
    assert (cluster.given["task"].weights, cluster.given["task"].tokens) == ({}, "")


def test_another_mixture_is_trained_with_its_own_weights(cluster: Cluster) -> None:
    run(spec(*WEIGHTS))
    run(spec(*WEIGHTS, "stages.corpus.sources.web.weight=9"))
    assert cluster.calls == ["corpus", "tokenizer", "pretrain", "pretrain"]
    assert cluster.given["task"].weights == {"web": 9.0, "wiki": 3.0}


def test_epochs_are_trained_as_many_steps_as_they_have_batches(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm.tokens.count_rows", lambda *_: 18)
    run(spec("stages.pretrain.steps=auto", "stages.pretrain.epochs=2"))
    assert cluster.calls == ["corpus", "tokenizer", "tokens", "pretrain"]
    train = cluster.given["task"].train
    assert (train.epochs, train.steps, train.batch) == (2, 5, 4)


def test_a_weight_on_a_source_of_which_nothing_is_left_is_refused(cluster: Cluster) -> None:
    cluster.train = {"web": 0, "wiki": 7}
    with pytest.raises(
        DataError, match=r"stages\.corpus\.sources\.web: no document .* weight is 1"
    ):
        run(spec(*WEIGHTS))


def test_a_damaged_corpus_is_named_with_its_remedy(cluster: Cluster) -> None:
    made = spec()
    run(made)
    (folder_of(made, "corpus") / "corpus.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"corpus\.json: cannot be read .* remove its folder"):
        run(spec("stages.pretrain.steps=3"))


def test_a_corpus_alone_is_a_spec(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    run(spec("stages={corpus: {kind: corpus, sources: {web: {shards: web.jsonl}}}}"))
    assert cluster.calls == ["corpus"]
    told = capsys.readouterr().out
    assert "report.html" in told
    assert "next:" not in told
