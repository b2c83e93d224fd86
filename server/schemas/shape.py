"""What a request says about the form of its answer, as a grammar, and where that can be had."""

from __future__ import annotations

from models.grammar_limits import check_client_grammar
from models.structured.schema import grammar_of_any_object, grammar_of_schema
from server.errors import InvalidValue, MissingParameter, UnsupportedValue
from server.schemas.chat import ChatRequest, ResponseFormat


def to_grammar(request: ChatRequest) -> str | None:
    """The grammar that the answer must follow, if the request wants one.

    Raises `GrammarInvalid`, `InvalidValue` or `MissingParameter`.
    """
    form = request.response_format
    if form is not None and form.json_schema is not None and form.type != "json_schema":
        raise InvalidValue(
            "'response_format.json_schema' needs 'type': 'json_schema'.",
            param="response_format.json_schema",
        )
    has_form = form is not None and form.type != "text"
    if request.grammar is not None:
        if has_form:
            raise InvalidValue(
                "'grammar' and 'response_format' exclude each other.", param="grammar"
            )
        check_client_grammar(request.grammar)
    if request.min_tokens and (has_form or request.grammar is not None):
        raise InvalidValue(
            "'min_tokens' goes with neither 'response_format' nor 'grammar': the form says where"
            " the answer ends.",
            param="min_tokens",
        )
    return request.grammar if form is None or form.type == "text" else _to_grammar(form)


def _to_grammar(form: ResponseFormat) -> str:
    if form.type == "json_object":
        return grammar_of_any_object()
    if form.json_schema is None:
        raise MissingParameter(
            "'response_format.json_schema' is required.", param="response_format.json_schema"
        )
    return grammar_of_schema(form.json_schema.schema_)


def refuse_grounded(request: ChatRequest) -> None:
    """Raise for what only the bare model can do: an answer from documents has its own form."""
    form = request.response_format
    for name, is_asked in (
        ("logprobs", bool(request.logprobs)),
        ("response_format", form is not None and form.type != "text"),
        ("grammar", request.grammar is not None),
        ("min_tokens", bool(request.min_tokens)),
    ):
        if is_asked:
            raise UnsupportedValue(
                f"'{name}' needs the bare model: an answer from documents is not written by it"
                " token by token; choose 'mynah-raw', or 'grounding.mode': 'off'.",
                param="response_format.type" if name == "response_format" else name,
            )
