"""A PPO training as one record: all that decides it. It lies in the artifact as task.json."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm.align_config import PpoConfig


@dataclass(frozen=True, kw_only=True)
class PpoTask:
    """Resolved config, files, seed. `folder` is the artifact; folders are absolute paths."""

    folder: str
    policy: str
    """Artifact of the chat model that training starts with, and that it is compared with."""
    reward: str
    """Artifact of a reward model; empty: `config.rule` judges."""
    prompts: str
    """Examples (`llm.examples`): prompts to train on, and those held out."""
    config: PpoConfig
    seed: int
    comparisons: str = ""
    """Examples: held-out comparisons that show whose side the policy takes; empty: none."""
    pretrain: str = ""
    """task.json of the pretraining whose text is mixed in; empty: none is."""

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return Path(self.folder) / "checkpoints"

    def to_json(self) -> dict[str, Any]:
        """As it stands in task.json."""
        return asdict(self)


def read_ppo_task(path: Path) -> PpoTask:
    """A task from its JSON file."""
    from pydantic import TypeAdapter

    return TypeAdapter(PpoTask).validate_json(path.read_bytes())
