"""What processes send, worked by hand for rings of two, eight and sixteen."""

import pytest

from llm.config import ModelConfig
from llm.gpus import GPUS
from llm.memory import Layout, layer_and_rest
from llm.network import OF_LINKS, Move, crossing, nodes_of, seconds, traffic
from llm.size import parameters

MODEL = ModelConfig(depth=8, width=512, heads=8, hidden=1536, context=256)
COUNT = sum(parameters(MODEL, 1000).values())
LAYER, REST = layer_and_rest(MODEL, 1000)
H100 = GPUS["h100"]


def sent(layout: Layout, computing: float = 1.0):
    return traffic(MODEL, 1000, layout, H100, computing)


def test_one_process_sends_nothing():
    alone = sent(Layout(micro_batch=1))
    assert (alone.sent, alone.between, alone.seconds, alone.exposed) == (0, 0, 0, 0)


def test_ddp_sends_each_gradient_there_and_back_once_a_step():
    for rounds in (1, 4):
        got = sent(Layout(micro_batch=1, rounds=rounds, workers=8))
        assert got.sent == pytest.approx(2 * 4 * COUNT * 7 / 8)
        assert got.between == 0


def test_fsdp_gathers_twice_and_scatters_once_with_every_micro_batch():
    got = sent(Layout(micro_batch=1, rounds=3, workers=8, shards=8))
    assert got.sent == pytest.approx(3 * 7 / 8 * (8 * LAYER * (2 + 2 + 4) + REST * (4 + 4)))


def test_a_node_gets_what_it_needs_through_all_its_adapters():
    two_nodes = Move(bytes=1600.0, split=1, ring=16, collectives=1, outer=1)
    assert crossing(two_nodes) == 1600 / 2 / 8
    between_copies = Move(bytes=1600.0, split=8, ring=2, collectives=1, outer=8)
    assert crossing(between_copies) == 200 / 2


def test_a_ring_that_begins_a_second_node_passes_two():
    assert nodes_of(Move(1.0, 1, ring=8, collectives=1, outer=1)) == 1
    assert nodes_of(Move(1.0, 1, ring=9, collectives=1, outer=1)) == 2


def test_hsdp_sends_only_its_share_of_the_gradients_to_other_nodes():
    shared, apart = (
        sent(Layout(micro_batch=1, rounds=4, workers=64, shards=shards)) for shards in (64, 8)
    )
    assert apart.between == pytest.approx(2 * 4 * COUNT / 8 * 7 / 8)
    assert apart.between < shared.between


def test_large_transfers_take_their_bytes_by_the_slower_way():
    inside = Move(bytes=450e9, split=1, ring=8, collectives=0, outer=1)
    assert seconds(inside, H100) == pytest.approx(7 / 8 / OF_LINKS)
    outside = Move(bytes=400e9, split=1, ring=16, collectives=0, outer=1)
    assert seconds(outside, H100) == pytest.approx(max(1 / 2, 400 / 450 * 15 / 16) / OF_LINKS)


def test_what_computing_does_not_hide_is_waited_for():
    layout = Layout(micro_batch=1, workers=64, shards=64)
    assert sent(layout, computing=0.0).exposed == sent(layout).seconds
    assert 0 < sent(layout, computing=10.0).exposed < sent(layout).seconds / 4
