"""What it costs to disagree with people's comparisons: pure functions of scores and rewards.

People's choice of answer w over l is taken to have probability sigmoid(r_w - r_l) (Bradley and
Terry 1952), so the loss of a comparison is -log sigmoid of that difference. A ranking of k answers
holds up to k (k - 1) / 2 comparisons. They are averaged inside the ranking, so that a prompt with
many answers weighs no more than one with two (InstructGPT 2022, equation 1).

N answers of a batch, P pairs of them.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Pairs(NamedTuple):
    """Which answer of a batch was preferred to which.

    better, worse: (P,) int64, places among the N answers; weights: (P,), what a pair's loss is
    multiplied by; margins: (P,), by how much the better one should win at least.
    """

    better: Tensor
    worse: Tensor
    weights: Tensor
    margins: Tensor

    def __call__(self, rewards: Tensor) -> Tensor:
        """By how much the better one of each pair wins: (N,) -> (P,)."""
        return rewards[self.better] - rewards[self.worse]


def strict_pairs(scores: np.ndarray) -> np.ndarray:
    """Scores (k,) -> (P, 2): all (i, j) of which i has the higher score; ties make no pair."""
    return np.argwhere(scores[:, None] > scores[None, :])


def ranking_loss(rewards: Tensor, pairs: Pairs) -> Tensor:
    """Summed loss of rewards (N,): -log sigmoid(difference - margin) (Llama 2, equation 2)."""
    return (pair_losses(pairs(rewards) - pairs.margins) * pairs.weights).sum()


def dpo_loss(gains: Tensor, pairs: Pairs, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Summed loss of gains (N,): log-probability under the policy less that under the reference.

    beta x gain is the reward that such a policy would be the best answer to (Rafailov et al. 2023,
    equation 7).
    """
    return (pair_losses(beta * pairs(gains), label_smoothing) * pairs.weights).sum()


def pair_losses(differences: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-log sigmoid of each difference, if so many of the labels are the wrong way round: (P,)."""
    right, wrong = F.softplus(-differences), F.softplus(differences)
    return torch.lerp(right, wrong, label_smoothing)
