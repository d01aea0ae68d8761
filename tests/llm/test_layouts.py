"""Which layouts are found, which of them is best, and what a spec can ask for."""

from dataclasses import replace

from llm.config import ModelConfig
from llm.gpus import GPUS
from llm.layouts import USABLE, layouts, proposals
from tests.published import LLAMA_8B

SMALL = ModelConfig(depth=4, width=256, heads=4, hidden=704, context=256)
H100 = GPUS["h100"]


def test_every_layout_gives_every_worker_something_to_do():
    found = list(layouts(batch=24, workers=8))
    assert {layout.micro_batch for _, layout in found} == {1, 2}  # 4 x 8 are more than 24
    assert {layout.rounds for _, layout in found if layout.micro_batch == 2} == {2}
    assert {way for way, _ in found} == {"ddp", "fsdp"}  # one node shares nothing twice


def test_workers_with_unequal_shares_wait_for_the_busiest():
    even, uneven = (proposals(SMALL, 8192, batch, 8, H100)[0] for batch in (24, 20))
    assert uneven.tokens == 20 * 256 and even.tokens == 24 * 256
    assert uneven.mfu < even.mfu


def test_several_nodes_can_share_out_each_for_itself():
    shards = {way: layout.shards for way, layout in layouts(batch=64, workers=32)}
    assert shards == {"ddp": 1, "fsdp": 32, "hsdp": 8}


def test_a_small_model_is_held_by_every_worker_with_all_its_activations():
    best = proposals(SMALL, 8192, 64, 8, H100)[0]
    assert (best.way, best.layout.recompute) == ("ddp", "none")
    assert best.layout.rounds == 1 and best.fits and best.runs_today


def test_a_large_one_is_shared_out():
    found = proposals(LLAMA_8B, 128_256, 1024, 512, H100)
    assert found[0].way in ("fsdp", "hsdp") and found[0].fits
    assert not any(one.fits for one in found if one.way == "ddp")
    assert 0.3 < found[0].mfu < 0.6


def test_what_fits_comes_first_and_the_fastest_of_it():
    found = proposals(LLAMA_8B, 128_256, 128, 64, H100)
    fitting = [one for one in found if one.fits]
    assert found[: len(fitting)] == fitting
    assert all(one.bytes <= USABLE * H100.memory for one in fitting)
    assert min(one.seconds for one in fitting) > 0.95 * fitting[0].seconds


def test_less_memory_means_computing_again():
    tight = replace(H100, memory=30 * 2**30)
    assert proposals(LLAMA_8B, 128_256, 128, 64, tight)[0].layout.recompute == "full"
