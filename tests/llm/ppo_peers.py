"""Other people's PPO mathematics on given arrays, run by a Python that has TRL and torchtune.

`python ppo_peers.py IN.npz OUT.npz`. Of torchtune only two files are loaded: the package as a whole
wants a torchao of its own time.
"""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch
from trl.experimental.ppo.ppo_trainer import masked_whiten
from trl.trainer.utils import entropy_from_logits, selective_log_softmax


def load_torchtune() -> tuple[types.ModuleType, types.ModuleType]:
    """The files with rewards and losses, by themselves."""
    package = Path(importlib.util.find_spec("torchtune").submodule_search_locations[0])
    stub = sys.modules["torchtune"] = types.ModuleType("torchtune")
    stub.rlhf = load(package / "rlhf/rewards.py")
    return stub.rlhf, load(package / "rlhf/loss/ppo.py")


def load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(source: str, target: str) -> None:
    rewards, loss = load_torchtune()
    x = {name: torch.from_numpy(array) for name, array in np.load(source).items()}
    mask, last = x["mask"], x["mask"].sum(1) - 1
    coefficient, gamma, lam, clip, value_clip = x["settings"].tolist()
    rewarded, _, _ = rewards.get_rewards_ppo(
        x["scores"], x["logprobs"], x["reference"], coefficient, last
    )
    rewarded, values = rewarded * mask, x["values"] * mask
    _, returns = rewards.estimate_advantages(values, rewarded, gamma, lam, mask)
    advantages = masked_whiten(returns - values, mask) * mask
    for name in ("new_logprobs", "new_values"):
        x[name].requires_grad_()
    total, policy, value, _, clipped = loss.PPOLoss(clip, value_clip, value_coeff=1.0)(
        x["logprobs"], x["new_logprobs"], advantages, values, x["new_values"], returns, mask, mask
    )
    total.backward()
    found = {
        "rewards": rewarded,
        "returns": returns,
        "advantages": advantages,
        "scaled": masked_whiten(rewarded, mask, shift_mean=False) * mask,
        "policy_loss": policy,
        "value_loss": value,
        "clipped": clipped,
        "policy_gradient": x["new_logprobs"].grad,
        "value_gradient": x["new_values"].grad,
        "token_logprobs": selective_log_softmax(x["logits"].double() / 0.7, x["ids"]).float(),
        "entropy": entropy_from_logits(x["logits"].double()).float(),
    }
    np.savez(target, **{name: tensor.detach().numpy() for name, tensor in found.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
