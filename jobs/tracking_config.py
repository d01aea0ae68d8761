"""Where the course of a training is shown besides its own folder: neither torch nor ray."""

from llm.config import record


@record
class TrackingConfig:
    """Who is shown the figures of trainings; TensorBoard's files are always written."""

    mlflow: str | None = None
    """Tracking URI of MLflow: http://..., sqlite:///FILE, or a folder as file:///...; the run's
    name is the experiment's."""
    wandb: str | None = None
    """Project at Weights & Biases; without WANDB_API_KEY it is kept here, for `wandb sync`."""
