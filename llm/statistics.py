"""Figures of every layer, now and then: whether gradients vanish or explode, and where.

Of the gradient the norm before clipping; of the weights the norm, and the size of an update as a
share of it (about 1e-3 where learning goes well); of what a layer puts out, root mean square and
largest entry. A step's gradients are looked at when the optimizer is about to use them, its
activations as they pass, so the training itself knows nothing of it; a step in between costs
nothing, one that is looked at a copy of the weights.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from llm.parallel import shared_out
from llm.pieces import piece_of
from llm.train import StepReport
from llm.world import World

FIGURES = ("gradient", "weight", "update", "rms", "largest")
LAYER = re.compile(r"(.*?)\.?blocks\.(\d+)(\.|$)")


def layer_of(name: str) -> str:
    """`blocks.0.mlp.up.weight` is of layer 1, `encoder.blocks.0` of encoder 1, `norm` of norm."""
    found = LAYER.match(name)
    return f"{found[1]} {int(found[2]) + 1}".strip() if found else name.split(".")[0]


class Statistics:
    """Looks at the first step and at every `every`-th: `expect` each step, `take` what was seen."""

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, every: int, clip: float, world: World
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.every, self.clip, self.world = every, clip, world
        self.layers = list(dict.fromkeys(layer_of(name) for name, _ in model.named_parameters()))
        self.hooks: list[RemovableHandle] = []
        self.before: dict[str, Tensor] = {}
        self.squares: dict[tuple[str, str], Tensor | float] = defaultdict(float)
        """By what and layer; of activations also how many there were."""
        self.largest: dict[str, Tensor] = {}

    def expect(self, step: int) -> None:
        """Before a step: look at it, if it is one of those."""
        self._forget()
        if step != 1 and step % self.every:
            return
        for name, module in self._putting_out():
            self.hooks.append(module.register_forward_hook(self._seen(layer_of(name))))
        self.hooks.append(self.optimizer.register_step_pre_hook(self._before_update))
        self.hooks.append(self.optimizer.register_step_post_hook(self._after_update))

    def take(self, report: StepReport) -> list[dict[str, Any]]:
        """After a step, in all processes: a record of each layer; none if it was not looked at."""
        if not self.before:
            return []
        squares, largest = self._gathered()
        clipped = max(1.0, report.grad_norm / self.clip) if self.clip else 1.0
        self._forget()
        return [record(layer, squares, largest[layer], clipped) for layer in self.layers]

    def _putting_out(self) -> Iterator[tuple[str, nn.Module]]:
        """Layers, and what stands before and behind them."""
        for name, module in self.model.named_modules():
            found = LAYER.fullmatch(name)
            if found or (name and "." not in name and any(True for _ in module.parameters(False))):
                yield name, module

    def _forget(self) -> None:
        for hook in self.hooks:
            hook.remove()
        for seen in (self.hooks, self.before, self.squares, self.largest):
            seen.clear()

    def _seen(self, layer: str) -> Any:
        """A hook that looks at what a layer puts out in training."""

        def look(module: nn.Module, _: Any, out: Any) -> None:
            if module.training and isinstance(out, Tensor):
                numbers = out.detach().float()
                self.squares["activation", layer] += numbers.square().sum()
                self.squares["count", layer] += numbers.numel()
                most = numbers.abs().amax()
                self.largest[layer] = torch.maximum(self.largest.get(layer, most), most)

        return look

    def _before_update(self, *_: Any) -> None:
        for name, parameter in self.model.named_parameters():
            if parameter.grad is not None:
                rows = piece_of(parameter).rows
                self.before[name] = rows.clone()
                self._add("gradient", name, piece_of(parameter.grad).rows)
                self._add("weight", name, rows)

    def _after_update(self, *_: Any) -> None:
        for name, parameter in self.model.named_parameters():
            if name in self.before:
                self._add("update", name, piece_of(parameter).rows - self.before[name])

    def _add(self, what: str, name: str, numbers: Tensor) -> None:
        self.squares[what, layer_of(name)] += numbers.float().square().sum()

    def _gathered(self) -> tuple[dict[tuple[str, str], float], dict[str, float]]:
        """Sums over all processes; of weights only if each has its own rows."""
        keys = [
            (what, layer)
            for what in ("gradient", "weight", "update", "activation", "count")
            for layer in self.layers
        ]
        own = [float(self.squares[key]) for key in keys]
        summed = self.world.sum(*own)
        each = shared_out(self.model)
        of_all = [key[0] in ("activation", "count") or each for key in keys]
        values = [s if all_ else o for s, o, all_ in zip(summed, own, of_all, strict=True)]
        largest = self.world.max(*(float(self.largest.get(one, 0.0)) for one in self.layers))
        return dict(zip(keys, values, strict=True)), dict(zip(self.layers, largest, strict=True))


def record(
    layer: str, squares: dict[tuple[str, str], float], largest: float, clipped: float
) -> dict[str, Any]:
    """A layer's figures; those that are no numbers, or that it does not have, are none."""
    norm = {what: math.sqrt(squares[what, layer]) for what in ("gradient", "weight", "update")}
    count = squares["count", layer]
    figures = {
        "gradient": norm["gradient"] * clipped,
        "weight": norm["weight"],
        "update": norm["update"] / norm["weight"] if norm["weight"] else math.nan,
        "rms": math.sqrt(squares["activation", layer] / count) if count else math.nan,
        "largest": largest if count else math.nan,
    }
    return {
        "layer": layer,
        **{name: value if math.isfinite(value) else None for name, value in figures.items()},
    }
