"""Errors of the HTTP and command-line layer, and the one table from error class to HTTP status.

AppError
└── ServerError
    ├── InvalidValue            a field has a wrong type or value
    ├── MissingParameter        a required field is absent
    ├── UnsupportedParameter    a field that this server does not know or not act on
    ├── UnsupportedValue        a value of a known field that this server does not act on
    ├── InvalidApiKey           no key, or none of ours
    ├── AccessRefused           a host name or browser origin that is not ours
    ├── RouteNotFound           no such path
    ├── MethodNotAllowed        the path exists, the method does not
    ├── ModelNotFound           `model` names nothing we serve
    ├── RequestTooLarge         the body is over `max_request_bytes`
    ├── NotReady                model or index are still loading
    ├── ServerStopping          the server was told to stop before the answer was complete
    ├── InternalError           a fault of ours; details are in the log only
    ├── ConfigInvalid           a setting, or its name, or the configuration file
    ├── AddressRefused          an address that may not or cannot be bound
    ├── ModelMissing            no GGUF to serve
    ├── CalibrationInvalid      too few labelled questions, or a damaged calibration
    ├── KeyInvalid              a key's name breaks the rule, exists already or is unknown
    └── KeysDamaged             the file of keys cannot be read
"""

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
    EmbedderUnavailable,
    EngineStopped,
    GrammarInvalid,
    ModelError,
    ModelFileInvalid,
    PromptInvalid,
    QueueFull,
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


class ServerError(AppError):
    """Something the HTTP or command-line layer refuses or cannot do."""

    code = "server_error"


class InvalidValue(ServerError):
    """A field has a wrong type or a value out of its range."""

    code = "invalid_value"


class MissingParameter(ServerError):
    """A required field is absent."""

    code = "missing_required_parameter"


class UnsupportedParameter(ServerError):
    """A field that this server does not know or does not act on."""

    code = "unsupported_parameter"


class UnsupportedValue(ServerError):
    """A value of a known field that this server does not act on."""

    code = "unsupported_value"


class InvalidApiKey(ServerError):
    """The request carries no API key, or one that this server did not create."""

    code = "invalid_api_key"


class AccessRefused(ServerError):
    """The request names a host or comes from a browser origin that is not ours."""

    code = "access_refused"


class RouteNotFound(ServerError):
    """There is nothing at this path."""

    code = "route_not_found"


class MethodNotAllowed(ServerError):
    """The path exists, but not for this method."""

    code = "method_not_allowed"


class ModelNotFound(ServerError):
    """`model` names nothing that this server serves."""

    code = "model_not_found"


class RequestTooLarge(ServerError):
    """The body is larger than `max_request_bytes`."""

    code = "request_too_large"


class RequestTimeout(ServerError):
    """The body did not arrive in time."""

    code = "request_timeout"


class NotReady(ServerError):
    """The model or the index are still loading."""

    code = "not_ready"


class ServerStopping(ServerError):
    """The server was told to stop before the answer was complete."""

    code = "server_stopping"


class InternalError(ServerError):
    """A fault of the server itself; what went wrong stands in its log."""

    code = "internal_error"


class ConfigInvalid(ServerError):
    """A setting has a wrong name or value, or the configuration file cannot be read."""

    code = "config_invalid"


class AddressRefused(ServerError):
    """The address may not be bound without API keys, or cannot be bound."""

    code = "address_refused"


class ModelMissing(ServerError):
    """There is no GGUF to serve."""

    code = "model_missing"


class CalibrationInvalid(ServerError):
    """There are too few labelled questions to calibrate on, or the file made of them is damaged."""

    code = "calibration_invalid"


class KeyInvalid(ServerError):
    """The name of an API key breaks the naming rule, is taken, or is unknown."""

    code = "key_invalid"


class KeysDamaged(ServerError):
    """The file of API keys cannot be read."""

    code = "keys_damaged"


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
    FileUnreadable: 500,
    NotReady: 503,
    ServerStopping: 503,
    EngineStopped: 503,
    StorageBusy: 503,
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
