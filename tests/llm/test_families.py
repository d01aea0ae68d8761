"""Networks of other families: their size is as planned, and they see what they are to see."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from llm.config import ModelConfig, SamplingConfig
from llm.encoder import Encoder
from llm.encoder_decoder import EncoderDecoder
from llm.families import make_model
from llm.generate import generate
from llm.size import flops_per_token, parameters
from llm.window_model import WindowModel

VOCAB = 20
SHAPE = ModelConfig(depth=2, width=16, heads=2, hidden=32, context=16)
FAMILIES: list[dict[str, Any]] = [
    {"family": "window", "window": 4},
    {"family": "encoder"},
    {"family": "encoder_decoder"},
    {"family": "encoder_decoder", "code": 5},
]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"bias": True, "norm": "layernorm", "mlp": "gelu", "positions": "learned", "tied": False},
        {"kv_heads": 1, "qk_norm": True, "positions": "sinusoidal"},
    ],
)
def test_the_planned_size_is_that_of_the_model(family: dict, parts: dict) -> None:
    config = replace(SHAPE, **{"kv_heads": "auto", "qkv_bias": "auto", **family, **parts})
    model = make_model(config, VOCAB)
    assert sum(parameters(config, VOCAB).values()) == sum(p.numel() for p in model.parameters())
    assert flops_per_token(config, VOCAB) > 0


# -- window ----------------------------------------------------------------------------------------


def window_model(**changes: Any) -> WindowModel:
    model = make_model(replace(SHAPE, family="window", window=4, **changes), VOCAB).eval()
    assert isinstance(model, WindowModel)
    return model


@torch.no_grad()
def changed_by(model: Any, ids: torch.Tensor, place: int) -> list[int]:
    """Places whose logits change with the token at a place."""
    other = ids.clone()
    other[:, place] = (ids[:, place] + 1) % VOCAB
    difference = (model(other) - model(ids)).abs().amax((0, 2))
    return torch.nonzero(difference > 1e-7).flatten().tolist()


def test_a_window_model_sees_its_window_and_nothing_else() -> None:
    ids = torch.randint(0, VOCAB, (2, 12))
    assert changed_by(window_model(), ids, 5) == [5, 6, 7, 8]


@torch.no_grad()
def test_a_window_model_continues_what_its_cache_has_seen() -> None:
    model, ids = window_model(), torch.randint(0, VOCAB, (2, 12))
    cache = model.cache()
    parts = [model.features(ids[:, a:b], cache) for a, b in ((0, 5), (5, 6), (6, 8), (8, 12))]
    torch.testing.assert_close(model.logits(torch.cat(parts, 1)), model(ids))
    assert cache.length == 12


@torch.no_grad()
def test_a_window_does_not_reach_into_another_document() -> None:
    model, ids = window_model(), torch.randint(0, VOCAB, (1, 8))
    documents = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1]])
    apart = model(ids, documents=documents)
    torch.testing.assert_close(apart[:, 5:], model(ids[:, 5:]))
    torch.testing.assert_close(apart[:, :5], model(ids)[:, :5])


def test_a_window_model_writes_past_its_context() -> None:
    model, sampling = window_model(), SamplingConfig(max_tokens=40, temperature=0.0)
    written = list(generate(model, [2, 5], sampling, end=None))
    alone = [2, 5]
    with torch.no_grad():
        for _ in range(40):
            alone.append(int(model(torch.tensor([alone[-4:]]))[0, -1].argmax()))
    assert len(written) == 40
    # before the window is full, what is not there is zeros either way
    assert written == alone[2:]


# -- encoder ---------------------------------------------------------------------------------------


def test_an_encoder_sees_both_sides() -> None:
    model = make_model(replace(SHAPE, family="encoder"), VOCAB).eval()
    assert isinstance(model, Encoder)
    ids = torch.randint(0, VOCAB, (2, 10))
    assert changed_by(model, ids, 5) == list(range(10))


@torch.no_grad()
def test_an_encoder_reads_a_packed_document_as_if_it_were_alone() -> None:
    model = make_model(replace(SHAPE, family="encoder", positions="learned"), VOCAB).eval()
    ids, documents = torch.randint(0, VOCAB, (1, 9)), torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 2]])
    together = model(ids, documents=documents)
    for start, stop in ((0, 4), (4, 7), (7, 9)):
        torch.testing.assert_close(together[:, start:stop], model(ids[:, start:stop]))


# -- encoder and decoder ---------------------------------------------------------------------------


def both(**changes: Any) -> EncoderDecoder:
    model = make_model(replace(SHAPE, family="encoder_decoder", **changes), VOCAB).eval()
    assert isinstance(model, EncoderDecoder)
    return model


@torch.no_grad()
@pytest.mark.parametrize("code", [0, 5])
def test_a_decoder_sees_all_that_was_read_and_what_it_has_written(code: int) -> None:
    model = both(code=code)
    ids, begun = torch.randint(0, VOCAB, (1, 7)), torch.randint(0, VOCAB, (1, 6))
    logits = model(ids, begun)
    read = ids.clone()
    read[0, 6] = (ids[0, 6] + 1) % VOCAB
    assert ((model(read, begun) - logits).abs().amax(2) > 1e-7).all()
    written = begun.clone()
    written[0, 3] = (begun[0, 3] + 1) % VOCAB
    changed = (model(ids, written) - logits).abs().amax((0, 2)) > 1e-7
    assert changed.tolist() == [False] * 3 + [True] * 3


@torch.no_grad()
@pytest.mark.parametrize("code", [0, 5])
def test_padding_is_not_read(code: int) -> None:
    model = both(code=code)
    ids, begun = torch.randint(0, VOCAB, (2, 8)), torch.randint(0, VOCAB, (2, 4))
    real = torch.ones(2, 8).bool()
    real[1, 5:] = False
    logits = model(ids, begun, real=real)
    torch.testing.assert_close(logits[:1], model(ids[:1], begun[:1]))
    torch.testing.assert_close(logits[1:], model(ids[1:, :5], begun[1:]))


def test_a_code_is_all_that_an_autoencoder_passes_on() -> None:
    model = both(code=5)
    assert model.to_code is not None and model.to_code.out_features == 5
    memory = model.read(torch.randint(0, VOCAB, (3, 7)))
    assert memory.features.shape == (3, 1, 16)
    assert torch.linalg.matrix_rank(model.read(torch.randint(0, VOCAB, (40, 7)))[0][:, 0]) <= 6
