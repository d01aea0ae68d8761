"""What processes send each other in a step, and how long a step waits for it, by arithmetic alone.

Rings: of B bytes that are gathered (or scattered and summed) by N processes each sends and receives
(N - 1) / N; an all-reduce does both (Patarasuk and Yuan 2009). Several nodes are one ring per
network adapter (NCCL), so that what a node has to get comes in through all of its adapters
together, and every step of a ring costs a latency. Transfers go on while layers compute, as far as
there is something to compute; the first and the last layer's have nothing to hide behind.
"""

from dataclasses import dataclass

from llm.config import ModelConfig
from llm.gpus import GPUS_PER_NODE, Gpu
from llm.memory import Layout, layer_and_rest
from llm.size import parameters

OF_LINKS = 0.75
"""Share of a link's speed that large collectives reach (nccl-tests: 340 to 370 of 450 GB/s on
H100)."""

HOP_INSIDE = 3.4e-6
HOP_BETWEEN = 14e-6
"""Seconds of a step of a ring within a node and between nodes: NCCL's own table
(graph/tuning.cc)."""

SUMMED = 4
"""Bytes of a gradient under way, fp32."""

GATHERED = 2
"""Bytes of a weight under way, bf16."""


@dataclass(frozen=True)
class Traffic:
    """Of one process in a step."""

    sent: float
    """Bytes."""
    between: float
    """Of these, bytes through the node's network adapters, for each of its processes."""
    seconds: float
    """That the transfers take."""
    exposed: float
    """Of these, seconds in which nothing computes."""


def traffic(model: ModelConfig, vocab: int, layout: Layout, gpu: Gpu, computing: float) -> Traffic:
    """Of a step that computes for so many seconds without waiting."""
    count = sum(parameters(model, vocab).values())
    layer, rest = layer_and_rest(model, vocab)
    pieces = model.depth + 1
    if layout.shards == 1:
        moves = [Move(2 * SUMMED * count, 1, layout.workers, 2 * pieces, outer=1)]
        hidden = computing / layout.rounds * 2 / 3  # the last micro batch's backward pass
        last = 2 * SUMMED * layer
    else:
        layers = layout.rounds * model.depth * layer
        gathered = layers * (2 * GATHERED + SUMMED) + layout.rounds * rest * (4 + SUMMED)
        moves = [Move(gathered, 1, layout.shards, 3 * pieces * layout.rounds, outer=1)]
        copies = layout.workers // layout.shards
        if copies > 1:  # hsdp: each shard's gradient is averaged over the copies, once a step
            moves.append(Move(2 * SUMMED * count, layout.shards, copies, 2 * pieces, layout.shards))
        hidden = computing
        last = layer * (GATHERED + SUMMED)
    took = [seconds(move, gpu) for move in moves]
    total = sum(took)
    tail = seconds(Move(last, 1, moves[0].ring, 2, outer=1), gpu)
    sent = sum(move.bytes / move.split * (move.ring - 1) / move.ring for move in moves)
    between = sum(crossing(move) for move in moves)
    exposed = min(total, max(tail, total - hidden))
    return Traffic(sent, between, total, exposed)


@dataclass(frozen=True)
class Move:
    """So many bytes through rings of processes."""

    bytes: float
    """Of the whole that is gathered or summed; an all-reduce counts twice."""
    split: int
    """Rings among which the whole is shared out."""
    ring: int
    """Processes of a ring."""
    collectives: float
    """Of how many the bytes are made; each is a way through the ring."""
    outer: int
    """Neighbours in the ring are so many processes apart."""


def nodes_of(move: Move) -> int:
    """Nodes that a ring passes."""
    return -(-move.ring * move.outer // GPUS_PER_NODE)


def crossing(move: Move) -> float:
    """Bytes through a process's share of the network adapters."""
    nodes = nodes_of(move)
    if nodes == 1:
        return 0.0
    rings = GPUS_PER_NODE if move.outer == 1 else 1  # a ring through all processes of a node
    return move.bytes / move.split * (nodes - 1) / nodes / rings


def seconds(move: Move, gpu: Gpu) -> float:
    """How long the transfers take if nothing else goes on."""
    if move.ring == 1:
        return 0.0
    nodes = nodes_of(move)
    inside = move.bytes / move.split * (move.ring - 1) / move.ring / gpu.link
    if move.outer >= GPUS_PER_NODE:
        inside = 0.0
    slowest = max(inside, crossing(move) / gpu.network) / OF_LINKS
    between = nodes if nodes > 1 else 0
    hops = (move.ring - between) * HOP_INSIDE + between * HOP_BETWEEN
    return slowest + move.collectives * hops
