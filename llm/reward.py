"""A reward model: a transformer that reads a conversation and says how good its last answer is.

The output layer of a chat model gives way to one number per position (Stiennon et al. 2020;
InstructGPT 2022); what stands at the answer's last token is the reward, at every position it is a
critic's estimate. The new layer starts at zero: every answer is as good as any other until a
comparison says otherwise, where N(0, 1 / (D + 1)) would start with differences of about 1 between
answers for no reason, which a small data set has to unlearn first.

Comparisons fix rewards only up to a constant, and their scale says how sure the model is. Whoever
trains on them wants numbers of a known size: reward.json holds the mean and standard deviation of
the reward over reference answers.

model.safetensors   body.* and head.*, fp32
model.json          as of any model (llm/artifact.py)
reward.json         {"mean": ..., "std": ...}

B sequences, T tokens, D width.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llm.artifact import read_shape, write_model
from llm.checkpoint import load_weights
from llm.errors import ArtifactError
from llm.files import write_json
from llm.model import Transformer
from llm.preference_loss import Pairs, ranking_loss

NAME = "reward.json"


class Scorer(nn.Module):
    """A number for every prefix. Takes the transformer over and drops its output layer."""

    def __init__(self, body: Transformer) -> None:
        super().__init__()
        body.head = None
        self.body = body
        self.head = nn.Linear(body.config.width, 1, device=body.embedding.weight.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, ids: Tensor, owners: Tensor, rows: Tensor, columns: Tensor, pairs: Pairs
    ) -> Tensor:
        """Summed loss of comparisons of answers, so that a wrapper of it sees training."""
        return ranking_loss(self.shared(ids, owners, rows, columns), pairs)

    def shared(self, ids: Tensor, owners: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Rewards (N,), in fp32, of answers that share rows (`llm.reward_data.Answers`)."""
        context = self.body.config.context  # padding may reach beyond it
        features = self.body.features(ids[:, :context], documents=owners[:, :context])
        return self._read(features[rows, columns])

    def values(self, ids: Tensor) -> Tensor:
        """(B, T) -> what each position is worth (B, T), in fp32."""
        return self._read(self.body.features(ids))

    def rewards(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) of `lengths` (B,) tokens each, anything behind them -> rewards (B,), in fp32.

        Tokens never see later ones, so padding on the right needs no mask.
        """
        rows = torch.arange(len(ids), device=ids.device)
        fitting = ids[:, : self.body.config.context]  # padding may reach beyond it
        return self._read(self.body.features(fitting)[rows, lengths - 1])

    def _read(self, features: Tensor) -> Tensor:
        """(..., D) -> (...): in fp32 also under autocast, since differences of rewards matter."""
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.float()).squeeze(-1)


class Normaliser(NamedTuple):
    """What rewards are on reference answers: called, it makes their mean 0 and variance 1."""

    mean: float
    std: float

    def __call__(self, rewards: Tensor) -> Tensor:
        """Rewards in standard deviations from the reference answers' mean."""
        return (rewards - self.mean) / self.std


def write_scorer(folder: Path, scorer: Scorer, normaliser: Normaliser) -> None:
    """Put weights and normaliser beside the model.json that is there; the normaliser is last."""
    write_model(folder, scorer)
    write_json(folder / NAME, normaliser._asdict())


def read_scorer(folder: Path) -> tuple[Scorer, Normaliser]:
    """The reward model of a folder, ready to score."""
    normaliser = read_normaliser(folder / NAME)
    scorer = Scorer(Transformer(*read_shape(folder)))
    load_weights(scorer, folder / "model.safetensors")
    return scorer.eval(), normaliser


def read_normaliser(path: Path) -> Normaliser:
    """The normaliser of a reward model's folder, or why the folder is none."""
    try:
        normaliser = Normaliser(**json.loads(path.read_text()))
        usable = math.isfinite(normaliser.mean) and 0 < normaliser.std < math.inf
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{path.parent}: holds no reward model (no {NAME}); name the artifact of a stage of "
            "kind reward"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"{path}: is not readable ({error}); remove the folder and run the spec again"
        ) from error
    if not usable:
        raise ArtifactError(
            f"{path}: mean {normaliser.mean} and std {normaliser.std} must be finite, std above 0; "
            "remove the folder and run the spec again"
        )
    return normaliser
