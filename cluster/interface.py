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
from dataclasses import dataclass
from typing import Any

import ray.util
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

SIOCGIFADDR = 0x8915
"""Linux: the IPv4 address of an interface."""

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


class Backend(_TorchBackend):
    """Ray Train's way to a process group, over the interface of our choice."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Runs in the controller, before a group's workers meet."""
        worker_group.execute(use_own_interface)
        super().on_start(worker_group, backend_config)


@dataclass
class Group(TorchConfig):
    """How a group's workers talk: by NCCL from GPU to GPU, else by gloo."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What sets the group up."""
        return Backend


def group_config(gpus: bool, timeout_s: int) -> Group:
    """For workers with GPUs or without; they wait so long for each other."""
    return Group(backend="nccl" if gpus else "gloo", timeout_s=timeout_s)
