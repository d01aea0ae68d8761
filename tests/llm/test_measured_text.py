"""Which documents measure a model, and that each token is predicted once, from all it may see."""

import json
import math
from pathlib import Path

import pytest
import torch

from llm.artifact import read_model
from llm.config import DataConfig, ValidationConfig
from llm.documents import is_held_out
from llm.errors import DataError
from llm.evaluate_config import MeasuredTextConfig
from llm.examinee import Desk
from llm.measured_text import measured_documents, training_documents, windows
from llm.measuring import text
from tests.deploy.tiny import TEXTS, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("text") / "model", chat=False, context=16)


def shards(folder: Path, count: int = 200) -> str:
    path = folder / "text.jsonl"
    lines = (json.dumps({"text": f"{TEXTS[n % 4]} {n}"}) + "\n" for n in range(count))
    path.write_text("".join(lines))
    return str(path)


def test_windows_predict_each_token_once_and_reach_back() -> None:
    asked = windows(0, [1, 2, 3, 4, 5, 6, 7], 3)
    assert [(one.ids, one.start) for one in asked] == [
        ((0, 1, 2, 3), 1),
        ((3, 4, 5, 6), 1),
        ((4, 5, 6, 7), 3),
    ]
    predicted = [id for one in asked for id in one.ids[one.start :]]
    assert predicted == [1, 2, 3, 4, 5, 6, 7]
    assert windows(0, [1], 3) == [((0, 1), 1)]
    assert windows(0, [], 3) == []


def test_bits_per_byte_are_those_of_the_model(folder: Path, tmp_path: Path) -> None:
    documents = measured_documents(MeasuredTextConfig(shards=(shards(tmp_path),), bytes=600))
    found = text(Desk().ask, folder, documents)
    model, tokenizer = read_model(folder)
    nats = size = 0.0
    for document in documents:
        ids = [tokenizer.eos, *tokenizer.encode(document.text)]
        size += len(document.text.encode())
        for at in range(1, len(ids)):
            # windows of 16 predict 16 tokens; the last one reaches back to be full
            last = min(-(-at // 16) * 16, len(ids) - 1)
            first = max(0, last - 16)
            with torch.no_grad():
                logprobs = model(torch.tensor([ids[first:at]]))[0, -1].log_softmax(-1)
            nats -= float(logprobs[ids[at]])
    bits = found.measures[0]
    assert bits.metric == "bits_per_byte"
    assert sum(bits.values) / sum(bits.weights) == pytest.approx(nats / math.log(2) / size)


def test_documents_are_those_that_training_holds_out(tmp_path: Path) -> None:
    config = MeasuredTextConfig(shards=(shards(tmp_path),), fraction=0.1, bytes=10**6)
    found = measured_documents(config)
    assert 5 < len(found) < 40
    assert all(is_held_out(one.text, 0.1) for one in found)
    assert found == measured_documents(config)
    assert found[0].name.startswith("text.jsonl:")


def test_no_document_to_measure_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text("a text")
    with pytest.raises(DataError, match=r"one\.txt: no document to measure; raise fraction"):
        measured_documents(MeasuredTextConfig(shards=(str(path),), fraction=0.0))


def test_what_is_recalled_is_training_text_and_its_control_is_not(tmp_path: Path) -> None:
    data = DataConfig(shards=(shards(tmp_path),), validation=ValidationConfig(fraction=0.2))
    trained = list(training_documents(data, False, 10))
    held_out = list(training_documents(data, True, 10))
    assert len(trained) == len(held_out) == 10
    assert not any(is_held_out(one.text, 0.2) for one in trained)
    assert all(is_held_out(one.text, 0.2) for one in held_out)
    nothing = DataConfig(shards=data.shards, validation=ValidationConfig(fraction=0.0))
    assert list(training_documents(nothing, True, 10)) == []
