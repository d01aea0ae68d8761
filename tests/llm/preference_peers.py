"""torchtune's DPO loss on given arrays, run by a Python that has it.

`python preference_peers.py IN.npz OUT.npz`. Only the one file is loaded: the package as a whole
wants a torchao of its own time.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch


def main(source: str, target: str) -> None:
    package = Path(importlib.util.find_spec("torchtune").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("dpo", package / "rlhf/loss/dpo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x = {name: torch.from_numpy(array) for name, array in np.load(source).items()}
    beta, label_smoothing = x["settings"].tolist()
    policy = x["policy"].requires_grad_()
    losses, _, _ = module.DPOLoss(beta, label_smoothing)(
        policy[:, 0], policy[:, 1], x["reference"][:, 0], x["reference"][:, 1]
    )
    losses.sum().backward()
    np.savez(target, loss=losses.detach().sum(), gradient=policy.grad)


if __name__ == "__main__":
    main(*sys.argv[1:])
