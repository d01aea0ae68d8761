"""What a user can get wrong. Everything else that goes wrong is a bug and stays a traceback.

UserError
├── SpecError     the YAML file or an override          (exit code 2)
├── DataError     shards, documents, a tokenizer's text  (exit code 1)
├── ArtifactError a checkpoint, model or manifest        (exit code 1)
├── TrainingError the run itself: loss is not finite ... (exit code 1)
└── Stopped       somebody asked it to end; it is saved  (exit code 130)

A message names the file, line or field, the value, what is allowed, and the remedy.
"""


class UserError(Exception):
    """A mistake that its message explains completely; shown without a traceback."""

    exit_code = 1


class SpecError(UserError):
    """The spec cannot be run as it is written."""

    exit_code = 2


class DataError(UserError):
    """Text that cannot be found, read or used."""


class ArtifactError(UserError):
    """A checkpoint, model or manifest that is missing, damaged or does not fit."""


class TrainingError(UserError):
    """Training that cannot sensibly go on."""


class Stopped(UserError):
    """A training that was asked to end, and did so after saving."""

    exit_code = 130


def stopped_at(step: int) -> str:
    """What a stopped training says."""
    return f"stopped after step {step}, which is saved; the same command goes on from there"
