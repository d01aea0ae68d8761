"""Draws: every thing once in every epoch, in an order that belongs to the seed."""

from itertools import islice

from llm.data import Cursor
from llm.epochs import Draw, own_starts
from llm.world import CPU, World


def test_every_epoch_has_each_thing_once_in_an_order_of_its_own() -> None:
    draw = Draw(20, 3, seed=5)
    drawn = [draw.item(number) for number in range(len(draw))]
    epochs = [drawn[:20], drawn[20:40], drawn[40:]]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [Draw(20, 3, seed=5).item(number) for number in range(60)] == drawn
    assert [Draw(20, 3, seed=6).item(number) for number in range(60)] != drawn


def test_behind_the_last_epoch_there_is_nothing() -> None:
    assert Draw(3, 2, seed=0).item(6) is None


def test_a_cursor_says_where_a_draw_stands() -> None:
    draw = Draw(3, 2, seed=0)
    assert draw.cursor(4) == Cursor(1, 1)
    assert draw.number(Cursor(1, 1)) == 4
    assert draw.number(Cursor(0, 3)) == draw.number(Cursor(1, 0))


def test_processes_share_out_the_portions_of_every_step() -> None:
    """Steps of 3 portions of 2 things, 2 processes: slots 0 and 2 belong to the first."""
    of = [list(islice(own_starts(10, 2, 3, World(rank, 2, CPU)), 4)) for rank in range(2)]
    assert of == [[10, 14, 16, 20], [12, 18, 24, 30]]
