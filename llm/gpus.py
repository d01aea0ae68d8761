"""What GPUs can do, from their data sheets and from those who measured them.

Dense bf16 products, memory, memory bandwidth, and bytes a second in one direction to GPUs of the
same node (link) and, each GPU's share of the node's adapters, of other nodes (network). Data
sheets: nvidia.com/en-us/data-center (A100, H100, H200, L4, L40S, HGX B200) and amd.com (MI300X);
networks as in the makers' own systems (DGX A100 200 Gb/s a GPU; DGX H100, H200, B200 and MI300X
platforms 400; L4 and L40S servers 200 for all eight). Memory is what torch finds, in GiB, some less
than is sold.

`best` is the fastest single product that anybody measured (stas00/ml-engineering, Maximum
Achievable Matmul FLOPS, 2025): data sheets promise more than power limits allow. Where nobody did,
it is taken to be `UNMEASURED` of the peak.
"""

from dataclasses import dataclass

from llm.errors import SpecError

UNMEASURED = 0.75
"""Share of the peak; those that were measured reach 51% (MI300X) to 87% (A100)."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU of a node of eight; bytes and FLOPs, per second where it is a speed."""

    name: str
    peak: float
    best: float
    memory: float
    bandwidth: float
    link: float
    network: float


def described(
    name: str, tera: float, best: float | None, gib: float, tb: float, link: float, network: float
) -> Gpu:
    """In the units of data sheets: TFLOP/s, GiB, TB/s, GB/s."""
    return Gpu(
        name=name,
        peak=tera * 1e12,
        best=(best or UNMEASURED * tera) * 1e12,
        memory=gib * 2**30,
        bandwidth=tb * 1e12,
        link=link * 1e9,
        network=network * 1e9,
    )


#              name       peak  best  GiB   TB/s   link network
TABLE = (
    described("a100-40", 312, 271, 39.4, 1.555, 300, 25),
    described("a100", 312, 271, 79.2, 2.039, 300, 25),
    described("h100", 989, 794, 79.1, 3.35, 450, 50),
    described("h200", 989, 794, 139.8, 4.8, 450, 50),  # the chip of the H100
    described("b200", 2250, 1745, 178.0, 7.7, 900, 50),
    described("l4", 121, None, 22.0, 0.3, 32, 3.1),  # link: PCIe 4.0
    described("l40s", 362, None, 44.4, 0.864, 32, 3.1),
    described("mi300x", 1307, 668, 191.7, 5.3, 448, 50),
)

GPUS = {gpu.name: gpu for gpu in TABLE}

GPUS_PER_NODE = 8


def known_gpu(name: str) -> Gpu:
    """The GPU of that name; SpecError names those that are known."""
    if name.lower() not in GPUS:
        raise SpecError(f"--gpu {name}: not known; there are {', '.join(GPUS)}")
    return GPUS[name.lower()]
