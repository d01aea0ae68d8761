"""What a user can get wrong. Everything else that goes wrong is a bug and stays a traceback.

UserError
├── SpecError     the YAML file or an override          (exit code 2)
├── DataError     shards, documents, a tokenizer's text  (exit code 1)
├── ArtifactError a checkpoint, model or manifest        (exit code 1)
└── TrainingError the run itself: loss is not finite ... (exit code 1)

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
