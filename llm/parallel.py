"""How several processes train one model: functions applied to a plain model from outside.

ddp: every process holds the whole model and gradients are averaged. fsdp: weights, gradients and
optimizer state lie in rows, each process holding its own (`fully_shard`; ZeRO-3, Rajbhandari et al.
2020), and a layer's weights are gathered just for its pass. Of the 16 bytes that a parameter takes
with AdamW each of N processes then holds 16 / N, and sends half as much again as with ddp, with
every micro batch. hsdp: the processes of a node share a copy out, so that gathering stays inside
it, and nodes average gradients.

In this order: what llm/passes.py does to layers, `share_out`, then the optimizer, then
`parallelise`. Sequences are not cut: a process holds its rows whole (no sequence, context, tensor
or pipeline parallelism), so a row's activations must fit beside a share of the weights.

What only fsdp needs is imported where it is used: it takes 0.8 s of every process that trains, and
of every recovery.
"""

import math
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from llm.errors import UserError
from llm.outside import Strategy
from llm.passes import layers_of, products_of
from llm.world import Precision, World


def share_out(model: nn.Module, world: World, strategy: Strategy, precision: Precision) -> None:
    """Leave this process its part of the weights, in place; before the optimizer is made.

    They must be the same in all processes. Parameters keep their names and shapes. With bf16,
    matrices of layers travel in it, as autocast would round them anyway: the numbers are the same,
    while autocast's copies would stay, whole, until the backward pass.
    """
    mesh = mesh_of(world, strategy)
    if mesh is None:
        return
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    policy = MixedPrecisionPolicy()
    if precision == "bf16":  # for matrix products under autocast, which casts the inputs
        policy = MixedPrecisionPolicy(
            torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    for layer in layers_of(model):
        fully_shard(products_of(layer), mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh)  # embedding, norms and head: fp32, gathered once for both passes


def mesh_of(world: World, strategy: Strategy) -> DeviceMesh | None:
    """The processes as rows of those that share a copy, or None where each is to hold its own.

    UserError if hsdp meets nodes of different sizes.
    """
    if strategy == "ddp" or world.size == 1:
        return None
    kind, node = world.device.type, node_size(world) if strategy == "hsdp" else world.size
    if node == 1:
        return None
    if node == world.size:
        return init_device_mesh(kind, (node,))
    return init_device_mesh(kind, (world.size // node, node), mesh_dim_names=("replicate", "shard"))


def node_size(world: World) -> int:
    """Processes of each node, as torchrun and Ray Train tell them; ranks of a node are in a row."""
    here = float(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    most, least = world.max(here, -here)
    if most != -least:
        raise UserError(
            f"cluster.strategy: hsdp shares a copy of the model out within each node, and the "
            f"{world.size} workers are {-least:.0f} on one node and {most:.0f} on another; choose "
            "a number of workers that fills the nodes evenly, or fsdp"
        )
    return int(most)


def copy_size(model: nn.Module) -> int:
    """Processes over which one copy of the weights lies."""
    first = next(model.parameters())
    if is_plain(first):
        return 1
    from torch.distributed.tensor import DTensor

    assert isinstance(first, DTensor), type(first)
    return first.device_mesh.size(-1)


def parallelise(model: nn.Module, world: World) -> nn.Module:
    """What is called in training: the model itself, or with gradients averaged over processes."""
    if world.size == 1 or shared_out(model):
        return model
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


def shared_out(model: nn.Module) -> bool:
    """Whether each process holds its own part of the weights."""
    return not is_plain(next(model.parameters()))


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Inside, `model` is a plain one with all its weights, and processes may do as they like.

    Entered by all processes together, but a process that is through does not wait for the others.
    It takes 4 bytes a parameter in each. The hooks of `fully_shard` are off: they note all passes,
    to fetch layers ahead in backward passes, and the notes must be the same in all processes.
    """
    if not shared_out(model):
        yield
        return
    from torch.distributed.fsdp import FSDPModule

    modules = list(model.modules())
    parts = [module for module in modules if isinstance(module, FSDPModule)]
    hooks = [(part._forward_pre_hooks, part._forward_hooks) for part in parts]
    rows = [(owner, *named) for owner in modules for named in owner.named_parameters(recurse=False)]
    try:
        for part in parts:
            part._forward_pre_hooks, part._forward_hooks = OrderedDict(), OrderedDict()
        for owner, name, own in rows:
            setattr(owner, name, nn.Parameter(whole(own.detach()), own.requires_grad))
        yield
    finally:
        for owner, name, own in rows:
            setattr(owner, name, own)
        for part, (before, behind) in zip(parts, hooks, strict=True):
            part._forward_pre_hooks, part._forward_hooks = before, behind


def synchronised(module: nn.Module, last: bool) -> AbstractContextManager[object]:
    """With ddp, gradients travel between processes only with the last micro batch of a step.

    With fsdp they travel every time: whole gradients that wait would take 4 bytes a parameter.
    """
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    return nullcontext()


def idle_passes(module: nn.Module, passes: int, slots: int, world: World) -> int:
    """Passes for nothing that follow a process's own: weights are gathered by all together."""
    return -(-slots // world.size) - passes if shared_out(module) else 0


def clip_gradients(model: nn.Module, limit: float) -> float:
    """Scale the gradient down to norm `limit` (0: leave it); returns the norm it had."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit or math.inf)
    return float(whole(norm))


def whole(tensor: Tensor) -> Tensor:
    """All rows of a tensor of which each process holds its own; called in all of them."""
    if is_plain(tensor):
        return tensor
    from torch.distributed.tensor import DTensor

    assert isinstance(tensor, DTensor), type(tensor)
    return tensor.full_tensor()


def is_plain(tensor: Tensor) -> bool:
    """Whether this process holds all of a tensor."""
    return type(tensor) in (Tensor, nn.Parameter)
