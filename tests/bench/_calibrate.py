"""What this machine can do, measured in a few seconds: products, memory, exponentials, operations.

`python -m tests.bench._calibrate` prints it as JSON. Each figure is the best of some rounds, since
other work only slows down. Nothing here is a model.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch.nn.functional import scaled_dot_product_attention

from llm.seconds import Curve, Machine, rate
from llm.world import Precision, World, fastest_precision

SIZES = {"cpu": (64, 128, 256, 512, 1024, 2048), "cuda": (256, 512, 1024, 2048, 4096, 8192)}
ROWS = {"cpu": 1024, "cuda": 8192}
PASSED = {"cpu": 1 << 23, "cuda": 1 << 27}
"""Numbers of the tensors that bandwidth is measured with: those of a micro batch."""
SECONDS = 0.15


def calibrate(device: torch.device, precision: Precision) -> Machine:
    """The speeds of one process of this machine."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    kind, rows = device.type, ROWS[device.type]
    curve = tuple((float(size), product_rate(rows, size, dtype, device)) for size in SIZES[kind])
    left, right, out = (torch.rand(PASSED[kind], device=device) for _ in range(3))
    narrow = torch.rand(PASSED[kind], device=device).to(dtype)
    one = torch.ones(1, device=device, requires_grad=True)
    cpu = kind == "cpu"
    return Machine(
        products=curve,
        bandwidth=3 * 4 * PASSED[kind] / best(lambda: torch.mul(left, right, out=out), device),
        attention=attention_share(curve, dtype, device),
        exponentials=PASSED[kind] / best(lambda: narrow.view(1024, -1).softmax(-1), device)
        if cpu
        else math.inf,
        handing_out=best(lambda: chain(one), device) / 200,
        meanwhile=not cpu,
    )


def product_rate(rows: int, size: int, dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of a linear map and of its two gradients together."""
    weight = torch.rand(size, size, device=device).to(dtype)
    x = torch.rand(rows, size, device=device).to(dtype)

    def three() -> None:
        torch.mm(x, weight.t())
        torch.mm(x, weight)
        torch.mm(x.t(), x)

    return 6 * rows * size * size / best(three, device)


def attention_share(curve: Curve, dtype: torch.dtype, device: torch.device) -> float:
    """Rate of the fused kernel, there and back, as a share of that of products.

    Where scores are worked out by plain products, their rate is that of all products.
    """
    batch, heads, context, features = (1, 4, 256, 64) if device.type == "cpu" else (4, 16, 2048, 64)
    shape = (batch, heads, context, features)
    query = torch.rand(shape, device=device).to(dtype).requires_grad_()

    def there_and_back() -> None:
        scaled_dot_product_attention(query, query, query, is_causal=True).sum().backward()

    flops = 6 * batch * heads * context * context * features
    reached = flops / best(there_and_back, device)
    return reached / rate(curve, math.sqrt(context * features))


def chain(one: torch.Tensor) -> None:
    """200 operations with hardly any work, half of them backwards."""
    x = one
    for _ in range(100):
        x = x * one.detach()
    x.backward()


def best(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of some runs, after one that sets things up."""
    cpu = device.type == "cpu"
    clock = time.process_time if cpu else time.perf_counter  # others use the cores, too
    finished = (lambda: None) if cpu else torch.cuda.synchronize
    run()
    least, end = math.inf, clock() + SECONDS
    while clock() < end or least == math.inf:
        finished()
        start = clock()
        run()
        finished()
        least = min(least, clock() - start)
    return least


if __name__ == "__main__":
    here = World.current().device
    print(json.dumps(asdict(calibrate(here, fastest_precision(here)))))
