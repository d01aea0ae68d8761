"""The models of PPO, from the artifacts of earlier stages, and the optimizer of those that learn.

Policy and critic are one module with one optimizer, so that a checkpoint holds both. They share no
weights: each has its own learning rate and its own limit of the gradient's norm, and AdamW does not
care how large a loss is, so no coefficient weighs one loss against the other.
"""

from pathlib import Path

import torch
from torch import nn
from torch.optim import AdamW

from llm.artifact import read_model
from llm.chat import Template
from llm.config import OptimConfig
from llm.errors import ArtifactError
from llm.model import Transformer
from llm.optim import groups_of
from llm.ppo_task import PpoTask
from llm.reward import Normaliser, Scorer, read_scorer
from llm.roles import Judge, Manner, RewardModel, RewardRule
from llm.rules import load_rule
from llm.run import Setting
from llm.tokenizer_file import tokenizer_in


class ActorCritic(nn.Module):
    """What PPO trains: a policy, and a critic that foresees what its answers will be worth.

    Dropout is off throughout: log-probabilities must be those of the very model that wrote.
    """

    def __init__(self, policy: Transformer, critic: Scorer) -> None:
        super().__init__()
        self.policy = policy
        self.critic = critic
        self.eval()


def make_ppo_optimizer(models: ActorCritic, config: OptimConfig) -> AdamW:
    """AdamW, the groups of the policy before those of the critic."""
    groups = [
        {**group, "part": part}
        for part, module in models.named_children()
        for group in groups_of(module, config)
    ]
    return AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def manner_of(task: PpoTask, template: Template) -> Manner:
    """How the answers of a task are written."""
    config = task.config
    return Manner(template.end, template.never, config.answer_tokens, config.temperature)


def read_judge(task: PpoTask, on: Setting) -> Judge:
    """The reference and the reward of a task, from their artifacts."""
    reference, tokenizer = read_model(Path(task.policy))
    template = Template(tokenizer)
    reward = read_reward(task, template, on)
    return Judge(reference.to(on.world.device), reward, manner_of(task, template), on)


def read_reward(task: PpoTask, template: Template, on: Setting) -> RewardModel | RewardRule:
    """A task's reward model, or its rule."""
    if not task.reward:
        assert task.config.rule, "neither a reward model nor a rule"
        return RewardRule(load_rule(task.config.rule), template)
    scorer, normaliser = read_fitting_scorer(task)
    return RewardModel(scorer.to(on.world.device), normaliser, task.config.reward_clip)


def read_fitting_scorer(task: PpoTask) -> tuple[Scorer, Normaliser]:
    """A task's reward model, if it reads the very tokens that the policy writes."""
    policy, reward = (tokenizer_in(Path(folder)) for folder in (task.policy, task.reward))
    scorer, normaliser = read_scorer(Path(task.reward))
    if policy.read_bytes() != reward.read_bytes():
        raise ArtifactError(
            f"{reward}: is another tokenizer than {policy}; PPO needs a reward model that was "
            "trained from the same pretrained model as the policy"
        )
    return scorer, normaliser


def read_critic(task: PpoTask) -> Scorer:
    """What the critic starts with: the reward model in units of normalised rewards.

    With a rule there is none, so it starts as the policy and expects 0 everywhere.
    """
    if not task.reward:
        return Scorer(read_model(Path(task.policy))[0])
    scorer, normaliser = read_fitting_scorer(task)
    with torch.no_grad():
        scorer.head.bias.sub_(normaliser.mean)
        scorer.head.weight.div_(normaliser.std)
        scorer.head.bias.div_(normaliser.std)
    return scorer
