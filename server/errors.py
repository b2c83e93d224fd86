"""Errors of the HTTP and command-line layer; `server/statuses.py` has their HTTP statuses.

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

from models.errors import AppError


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
