"""The one table from error class to HTTP status, and what OpenAI calls each kind of error."""

from __future__ import annotations

from collections.abc import Mapping

from index.errors import (
    CollectionNotFound,
    DocumentNotFound,
    EmbedderMismatch,
    FilterInvalid,
    NameInvalid,
    RankingInvalid,
    StorageBusy,
    StorageDamaged,
    StorageFull,
    StorageTooNew,
    StorageUnwritable,
    StoreError,
)
from ingest.errors import (
    FileChanged,
    FileDamaged,
    FileEmpty,
    FileMissing,
    FileNotText,
    FileTooLarge,
    FileUnreadable,
    FormatUnsupported,
    IngestError,
    NoText,
    PathTaken,
)
from models.errors import (
    AppError,
    ContextLengthExceeded,
    DeadlineExceeded,
    EmbedderUnavailable,
    EngineStopped,
    GrammarInvalid,
    ModelError,
    ModelFileInvalid,
    PromptInvalid,
    QueueFull,
    ReaderInvalid,
    RerankerUnavailable,
    SamplingInvalid,
)
from models.imitation.errors import (
    CheckpointUnsupported,
    DownloadFailed,
    ExportFailed,
    ExtraMissing,
    GateRefused,
    ModelUnknown,
    RegistryDamaged,
    RunDamaged,
    TeacherFailed,
    TermsNotAccepted,
    TrainingDataInvalid,
    TrainingFailed,
    TuningError,
)
from server.errors import (
    AccessRefused,
    AddressRefused,
    CalibrationInvalid,
    ConfigInvalid,
    InternalError,
    InvalidApiKey,
    InvalidValue,
    KeyInvalid,
    KeysDamaged,
    MethodNotAllowed,
    MissingParameter,
    ModelMissing,
    ModelNotFound,
    NotReady,
    RequestTimeout,
    RequestTooLarge,
    RouteNotFound,
    ServerError,
    ServerStopping,
    UnsupportedParameter,
    UnsupportedValue,
)

# Classes of the last block never reach a client by design; they are mapped all the same, so that
# a mistake there still gives an error body and not a broken reply.
STATUS_BY_CLASS: Mapping[type[AppError], int] = {
    InvalidValue: 400,
    MissingParameter: 400,
    UnsupportedParameter: 400,
    UnsupportedValue: 400,
    ContextLengthExceeded: 400,
    GrammarInvalid: 400,
    PromptInvalid: 400,
    SamplingInvalid: 400,
    NameInvalid: 400,
    FilterInvalid: 400,
    RankingInvalid: 400,
    IngestError: 400,
    FileMissing: 400,
    FileEmpty: 400,
    FileNotText: 400,
    FileDamaged: 400,
    FileChanged: 400,
    FormatUnsupported: 400,
    NoText: 400,
    PathTaken: 400,
    InvalidApiKey: 401,
    AccessRefused: 403,
    RouteNotFound: 404,
    ModelNotFound: 404,
    CollectionNotFound: 404,
    DocumentNotFound: 404,
    MethodNotAllowed: 405,
    RequestTimeout: 408,
    EmbedderMismatch: 409,
    RequestTooLarge: 413,
    FileTooLarge: 413,
    QueueFull: 429,
    InternalError: 500,
    StorageDamaged: 500,
    StorageTooNew: 500,
    StorageUnwritable: 500,
    ModelFileInvalid: 500,
    EmbedderUnavailable: 500,
    RerankerUnavailable: 500,
    ReaderInvalid: 500,
    FileUnreadable: 500,
    NotReady: 503,
    ServerStopping: 503,
    EngineStopped: 503,
    StorageBusy: 503,
    DeadlineExceeded: 504,
    StorageFull: 507,
    ModelError: 500,
    StoreError: 500,
    ServerError: 500,
    ConfigInvalid: 500,
    AddressRefused: 500,
    ModelMissing: 500,
    CalibrationInvalid: 500,
    KeyInvalid: 500,
    KeysDamaged: 500,
    TermsNotAccepted: 500,
    TeacherFailed: 500,
    TrainingDataInvalid: 500,
    RunDamaged: 500,
    CheckpointUnsupported: 500,
    TrainingFailed: 500,
    ExportFailed: 500,
    ExtraMissing: 500,
    RegistryDamaged: 500,
    ModelUnknown: 500,
    DownloadFailed: 500,
    GateRefused: 500,
    TuningError: 500,
}

TYPE_BY_STATUS: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


def status_of(error: AppError) -> int:
    """HTTP status of the nearest mapped class of `error`; `KeyError` if there is none."""
    for cls in type(error).__mro__:
        if cls in STATUS_BY_CLASS:
            return STATUS_BY_CLASS[cls]
    raise KeyError(type(error).__name__)


def type_of(status: int) -> str:
    """The body's `type` for an HTTP status."""
    return TYPE_BY_STATUS.get(status, "invalid_request_error" if status < 500 else "server_error")
