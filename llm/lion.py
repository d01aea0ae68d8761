"""Lion: every entry moves by the same amount, where a moment points (Chen et al. 2023, alg. 2).

    u = sign(b1 m + (1 - b1) g);  w = w - lr (u + decay w);  m = b2 m + (1 - b2) g

One moment in place of AdamW's two: 4 bytes a parameter less. Since entries move by all of the rate,
it is 3 to 10 times smaller than AdamW's, and the decay as many times larger (section 5 there).
"""

from typing import Any

import torch
from torch.optim import Optimizer

from llm.pieces import piece_of


class Lion(Optimizer):
    """Of weights that may be shared out: each process updates its rows."""

    def __init__(self, groups: list[dict], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            lr, decay, (step, keep) = group["lr"], group["weight_decay"], group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "moment" not in state:
                    state["moment"] = torch.zeros_like(parameter)
                tensors = (parameter, parameter.grad, state["moment"])
                weights, gradient, moment = (piece_of(one).rows for one in tensors)
                weights.mul_(1 - lr * decay)
                weights.add_(moment.lerp(gradient, 1 - step).sign_(), alpha=-lr)
                moment.lerp_(gradient, 1 - keep)
