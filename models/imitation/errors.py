"""Errors of imitation tuning and of the registry of models.

ModelError
└── TuningError
    ├── TermsNotAccepted        the teacher's terms of use were not accepted
    ├── TeacherFailed           the teacher's endpoint refuses, or fails after every retry
    ├── TrainingDataInvalid     a file of seeds, conversations, questions or judgements is malformed
    ├── RunDamaged              what an interrupted run left cannot be resumed
    ├── CheckpointUnsupported   the checkpoint is of a family or form that cannot be used
    ├── TrainingFailed          the loss is no number, or the run cannot go on
    ├── ExportFailed            the exported model does not equal the trained one
    ├── ExtraMissing            a package of the `tune` extra is not installed
    ├── RegistryDamaged         the registry of models cannot be read
    ├── ModelUnknown            the registry has no model of this name, or has one already
    ├── DownloadFailed          a download failed or does not have the expected hash
    └── GateRefused             a tuned model may not become the default yet
"""

from __future__ import annotations

from models.errors import ModelError


class TuningError(ModelError):
    """Something that imitation tuning refuses or cannot do."""

    code = "tuning_error"


class TermsNotAccepted(TuningError):
    """The teacher's terms of use were not accepted."""

    code = "terms_not_accepted"


class TeacherFailed(TuningError):
    """The teacher's endpoint refuses the request, or failed after every retry."""

    code = "teacher_failed"


class TrainingDataInvalid(TuningError):
    """A file of seeds, conversations, questions or judgements is malformed."""

    code = "training_data_invalid"


class RunDamaged(TuningError):
    """What an interrupted run left behind cannot be resumed."""

    code = "run_damaged"


class CheckpointUnsupported(TuningError):
    """The checkpoint is of a family or form that cannot be trained or exported."""

    code = "checkpoint_unsupported"


class TrainingFailed(TuningError):
    """The loss is no number any more, or the run cannot go on for another reason."""

    code = "training_failed"


class ExportFailed(TuningError):
    """The exported model does not behave as the trained one does."""

    code = "export_failed"


class ExtraMissing(TuningError):
    """A package of the `tune` extra is not installed."""

    code = "extra_missing"


class RegistryDamaged(TuningError):
    """The registry of models cannot be read or written."""

    code = "registry_damaged"


class ModelUnknown(TuningError):
    """The registry has no model of this name, or has another one of it already."""

    code = "model_unknown"


class DownloadFailed(TuningError):
    """A download failed, or its bytes do not have the expected hash."""

    code = "download_failed"


class GateRefused(TuningError):
    """A tuned model may not become the default before its reports stand and allow it."""

    code = "gate_refused"
