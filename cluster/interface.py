"""Over which network a group's workers talk: NCCL from GPU to GPU, else gloo, over what interface.

Both choose an interface by rules of their own: gloo looks up the host's name, which Debian resolves
to 127.0.1.1, NCCL takes the fastest that is up. Workers can only be sure to reach each other at the
addresses by which their nodes joined the cluster, so each is told the interface of its own, unless
its node's environment says another (GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME).
"""

import fcntl
import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray.util
from ray import train
from ray.exceptions import GetTimeoutError
from ray.train._internal.utils import get_address_and_port

SIOCGIFADDR = 0x8915
"""Linux: the IPv4 address of an interface."""

LEAVE_S = 5.0
"""Seconds that workers may take to leave their group."""

INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def interface_of(address: str) -> str | None:
    """The interface with an IPv4 address; None where nobody can tell (IPv6, not Linux)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(one, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # has no address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def use_own_interface() -> None:
    """Have this process's collectives talk over the interface by which its node is known."""
    name = interface_of(ray.util.get_node_ip_address())
    if name is not None:
        for variable in INTERFACES:
            os.environ.setdefault(variable, name)


def join_group(group: "Group", rank: int, size: int, address: str, port: int) -> None:
    """Runs in every worker: meet the others at the first one's address."""
    import torch.distributed

    use_own_interface()
    own = train.get_context()
    os.environ |= {
        **{"MASTER_ADDR": address, "MASTER_PORT": str(port)},
        **{"RANK": str(rank), "WORLD_SIZE": str(size)},
        "LOCAL_RANK": str(own.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(own.get_local_world_size()),
    }
    wait = timedelta(seconds=group.timeout_s)
    torch.distributed.init_process_group(group.backend, rank=rank, world_size=size, timeout=wait)


def leave_group() -> None:
    """Runs in every worker at its end."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Backend(train.backend.Backend):
    """Sets up torch's process group; runs in the controller, which need not load torch itself.

    Ray Train's own does, two seconds of a core before the workers begin.
    """

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Before a group's workers begin."""
        address, port = worker_group.execute_single(0, get_address_and_port)
        size = len(worker_group)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank, join_group, backend_config, rank, size, address, port
                )
                for rank in range(size)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Workers that wait for one that is gone are ended anyway."""
        with suppress(GetTimeoutError):
            ray.get(worker_group.execute_async(leave_group), timeout=LEAVE_S)


@dataclass
class Group(train.backend.BackendConfig):
    """How a group's workers talk: by NCCL from GPU to GPU, else by gloo."""

    backend: str
    timeout_s: int

    @property
    def backend_cls(self) -> type[Backend]:
        """What sets the group up."""
        return Backend


def group_config(gpus: bool, timeout_s: int) -> Group:
    """For workers with GPUs or without; they wait so long for each other."""
    return Group("nccl" if gpus else "gloo", timeout_s)
