"""How much memory each role of PPO takes, by arithmetic alone: no model is built, torch not loaded.

B answers of a batch, T tokens of a text at most.
"""

from llm.align_config import PpoConfig
from llm.config import ModelConfig
from llm.memory import layer_bytes_per_token, processor_kernels
from llm.size import SAVED_BYTES, parameters
from llm.writer_memory import key_value_bytes

WRITTEN_TOGETHER = 64
"""Answers; a step of writing costs hardly more for many than for one, but each needs a cache."""


def plan_memory(
    policy: ModelConfig,
    reward: ModelConfig | None,
    vocab: int,
    config: PpoConfig,
    *,
    bf16: bool,
    gpu: bool,
) -> dict[str, int]:
    """Estimated bytes of each role in a process that does everything itself.

    The critic is made of the reward model, or of the policy if a rule judges. Policy and critic
    share the room for activations, since they learn one after the other.
    """
    compute = 2 if bf16 else 4
    critic = reward or policy
    texts = min(WRITTEN_TOGETHER, config.batch)
    learning = {
        "policy": total(policy, vocab),
        "critic": total(critic, vocab) - head(critic, vocab),
    }
    return {
        **{role: 16 * count for role, count in learning.items()},  # gradients besides what is saved
        "reference": 4 * total(policy, vocab),
        "reward": 4 * (total(reward, vocab) - head(reward, vocab)) if reward else 0,
        "activations": activations(policy, critic, vocab, config, bf16),
        # keys and values are fp32 on a processor (llm/slots.py)
        "writing": compute * total(policy, vocab)
        + texts * key_value_bytes(policy, policy.context, 4),
        "experience": config.batch * (8 * policy.context + 8 * 4 * config.answer_tokens),
        "saving": 0 if gpu else SAVED_BYTES * sum(learning.values()),
    }


def total(model: ModelConfig, vocab: int) -> int:
    """Parameters of a model."""
    return sum(parameters(model, vocab).values())


def head(model: ModelConfig, vocab: int) -> int:
    """Parameters of an output layer of its own."""
    return parameters(model, vocab)["head"]


def activations(
    policy: ModelConfig, critic: ModelConfig, vocab: int, config: PpoConfig, bf16: bool
) -> int:
    """Of a micro batch of the longest texts: what a backward pass needs, and the logits."""
    layers = max(
        one.depth * layer_bytes_per_token(one, processor_kernels(one, bf16, tiles=False))
        for one in (policy, critic)
    )
    logits = config.answer_tokens * vocab * (6 if bf16 else 8)
    return config.micro_batch * (policy.context * layers + logits)
