"""A request's body, read with its size bounded and turned into a schema, or the error to send."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from models.errors import AppError
from server.errors import InvalidValue, MissingParameter, RequestTimeout, UnsupportedParameter

Schema = TypeVar("Schema", bound=BaseModel)

# A client that sends a byte now and then must not hold a connection for ever.
_BODY_TIMEOUT_S = 60

_KIND_BY_TYPE = {
    "NoneType": "null",
    "bool": "a boolean",
    "dict": "an object",
    "float": "a number",
    "int": "an integer",
    "list": "an array",
    "str": "a string",
}


async def read_body(request: Request, schema: type[Schema]) -> Schema:
    """The JSON body of `request` as a `schema`.

    Raises `InvalidValue`, `MissingParameter` or `UnsupportedParameter` with `param` set, and
    `RequestTooLarge` (the gate counts the bytes) or `RequestTimeout` while reading.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise InvalidValue(
            f"The content-type must be application/json, not {media_type[:80] or 'missing'}."
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidValue("The body must not be compressed: no content-encoding is supported.")
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            raw = await request.body()
    except TimeoutError:
        raise RequestTimeout(f"The body did not arrive within {_BODY_TIMEOUT_S} s.") from None
    return parse_json(raw, schema)


def parse_json(raw: bytes, schema: type[Schema]) -> Schema:
    """`raw` as a `schema`; errors as `read_body`.

    pydantic's own JSON reader refuses invalid UTF-8, lone surrogates and deep nesting.
    """
    try:
        return schema.model_validate_json(raw)
    except ValidationError as error:
        raise explain(error.errors(include_url=False)[0], schema) from None


def explain(details: ErrorDetails, schema: type[BaseModel]) -> AppError:
    """The error to send for the first thing that pydantic found wrong."""
    kind, param = details["type"], param_name(details["loc"])
    if kind == "json_invalid":
        reason = details["msg"].removeprefix("Invalid JSON: ")
        return InvalidValue(f"The body is not valid JSON: {reason}.")
    if param is None:
        return InvalidValue("The body must be a JSON object.")
    if kind == "missing":
        return MissingParameter(f"'{param}' is required.", param=param)
    if kind == "extra_forbidden":
        return UnsupportedParameter(
            f"There is no parameter '{param}'{_suggest(details['loc'], schema)}.", param=param
        )
    reason = details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return InvalidValue(f"'{param}' {reason}, not {describe(details['input'])}.", param=param)


def param_name(loc: Sequence[int | str]) -> str | None:
    """A location as OpenAI writes it: `messages[0].content`.

    Names in angle brackets are the tags of unions and `[key]` pydantic's mark for a key; neither
    is part of what the client sent.
    """
    name = ""
    for part in loc:
        if isinstance(part, int):
            name += f"[{part}]"
        elif part != "[key]" and not part.startswith("<"):
            name += f".{part[:80]}" if name else part[:80]
    return name or None


def describe(value: object) -> str:
    """A value in a few characters: scalars as they are, the rest by kind."""
    kind = _KIND_BY_TYPE.get(type(value).__name__, "this value")
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else kind
    if isinstance(value, int | float):
        shown = repr(value)
        return shown if len(shown) <= 40 else kind
    if isinstance(value, str) and len(value) <= 40:
        return repr(value)
    return kind


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that `name` was most likely meant to be, if any is near."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return matches[0] if matches else None


def _suggest(loc: Sequence[int | str], schema: type[BaseModel]) -> str:
    known = _field_names(loc[:-1], schema)
    match = nearest(str(loc[-1]), known)
    return f"; did you mean '{match}'" if match else ""


def _field_names(loc: Sequence[int | str], schema: Any) -> list[str]:
    """Names of the fields of the object at `loc`, as far as plain nested models go."""
    for part in loc:
        field = schema.model_fields.get(part)
        if field is None:
            return []
        inner = [
            t for t in getattr(field.annotation, "__args__", (field.annotation,)) if _is_model(t)
        ]
        if not inner:
            return []
        schema = inner[0]
    return list(schema.model_fields)


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
