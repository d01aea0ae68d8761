"""The tokenizer's sample: seeded, bounded, without held-out text, whatever reads it."""

import json
from pathlib import Path

import pytest

from cluster.tokenizer import Sample, train_tokenizer
from llm.config import DataConfig, TokenizerConfig, ValidationConfig
from llm.documents import is_held_out
from llm.shards import list_shards, list_units
from llm.tokenizer import Tokenizer
from llm.units import Units
from tests.tasks import write_text

pytestmark = pytest.mark.ray


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    folder = str(write_text(tmp_path / "text"))
    return DataConfig(shards=(folder,), validation=ValidationConfig(fraction=0.1))


def all_texts(data: DataConfig) -> list[str]:
    paths = sorted(Path(data.shards[0]).iterdir())
    return [json.loads(line)["text"] for path in paths for line in path.read_text().splitlines()]


def sample(data: DataConfig, size: int, seed: int = 1, unit_bytes: int = 4000) -> list[str]:
    units = Units.of(list_units(list_shards(data.shards, "auto"), unit_bytes))
    return list(Sample(units, data, size, seed).texts())


def test_a_big_enough_sample_is_all_training_text(ray_cluster: None, data: DataConfig) -> None:
    training = [text for text in all_texts(data) if not is_held_out(text, 0.1)]
    assert sample(data, 10**9) == training
    assert len(training) < len(all_texts(data))


def test_a_small_sample_is_seeded_and_spread(ray_cluster: None, data: DataConfig) -> None:
    size = 12_000
    one = sample(data, size)
    assert sample(data, size, unit_bytes=9000) == one
    assert sample(data, size, seed=2) != one
    assert 0.6 * size < sum(map(len, one)) < size + 100
    positions = [all_texts(data).index(text) for text in one]
    assert min(positions) < 100 and max(positions) > 1200


def test_a_tokenizer_trained_on_the_cluster_reads_the_text_back(
    ray_cluster: None, data: DataConfig, tmp_path: Path
) -> None:
    config = TokenizerConfig(vocab_size=300, byte_fallback=True)
    report = train_tokenizer(data, config, 1, tmp_path / "tokenizer.model")
    tokenizer = Tokenizer(tmp_path / "tokenizer.model")
    assert report.vocab_size == tokenizer.vocab_size == 300
    text = "the king fell \t 坐在墙上\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text
