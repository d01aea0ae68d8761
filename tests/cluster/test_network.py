"""Who gets through to whom, over which interface."""

import socket

import pytest

from cluster.interface import group_config, interface_of
from cluster.network import Door, knock, neighbours


def test_an_open_door_lets_in_and_a_closed_one_says_why() -> None:
    door = Door("127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # not listening, and nobody else can
        closed = unused.getsockname()
        found = knock({"open": ("127.0.0.1", door.port), "closed": closed})
    assert found == {"closed": f"Connection refused at 127.0.0.1:{closed[1]}"}


@pytest.mark.parametrize(
    ("count", "own", "others"),
    [(2, 0, "b"), (2, 1, "a"), (3, 1, "ac"), (9, 4, "afgh"), (9, 8, "abc"), (9, 0, "bcd")],
)
def test_a_node_knocks_at_the_first_and_at_the_next_ones(count: int, own: int, others: str) -> None:
    assert "".join(sorted(neighbours(list("abcdefghi"[:count]), own))) == others


def test_the_interface_of_an_address_is_found() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.255") is None


@pytest.mark.parametrize(("gpus", "backend"), [(True, "nccl"), (False, "gloo")])
def test_gpus_talk_by_nccl_and_cpus_by_gloo(gpus: bool, backend: str) -> None:
    assert group_config(gpus, 300).backend == backend
