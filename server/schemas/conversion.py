"""A chat request turned into what the grounder takes, or the error that says what is not served."""

from __future__ import annotations

from models.protocols import Message, PromptDocument, SamplingSettings
from server.errors import InvalidValue, MissingParameter, UnsupportedParameter, UnsupportedValue
from server.schemas.chat import ChatMessage, ChatRequest, ContentPart

_REFUSED_FIELDS = ("audio", "moderation", "prediction", "web_search_options")


def refuse_unserved(request: ChatRequest) -> None:
    """Raise for the first field that asks for something this server does not do."""
    for name in _REFUSED_FIELDS:
        if getattr(request, name) is not None:
            raise UnsupportedParameter(f"'{name}' is not supported.", param=name)
    for name in ("tools", "functions"):
        if getattr(request, name):
            raise UnsupportedParameter(f"'{name}': tool calls are not supported.", param=name)
    for name in ("tool_choice", "function_call"):
        if getattr(request, name) not in (None, "none"):
            raise UnsupportedParameter(f"'{name}' can only be 'none'.", param=name)
    if request.top_logprobs and not request.logprobs:
        raise InvalidValue("'top_logprobs' needs 'logprobs': true.", param="top_logprobs")
    max_tokens = _to_max_tokens(request)
    if max_tokens is not None and (request.min_tokens or 0) > max_tokens:
        raise InvalidValue(
            f"'min_tokens' is above the {max_tokens} tokens that the answer may have.",
            param="min_tokens",
        )
    if request.modalities not in (None, ["text"]):
        raise UnsupportedValue("'modalities' can only be ['text'].", param="modalities")
    if request.stream_options is not None and not request.stream:
        raise InvalidValue("'stream_options' needs 'stream': true.", param="stream_options")


def to_messages(request: ChatRequest) -> list[Message]:
    """The conversation with `developer` read as `system` and text parts joined by line ends."""
    return [_to_message(m, f"messages[{i}]") for i, m in enumerate(request.messages)]


def to_sampling(
    request: ChatRequest, *, default_temperature: float, num_vocab: int, grammar: str | None = None
) -> SamplingSettings:
    """How to sample; `max_completion_tokens` goes before the older `max_tokens`."""
    stop = request.stop or []
    return SamplingSettings(
        temperature=_or(request.temperature, default_temperature),
        top_p=_or(request.top_p, 1.0),
        top_k=request.top_k or 0,
        min_p=request.min_p or 0.0,
        repeat_penalty=_or(request.repeat_penalty, 1.0),
        frequency_penalty=request.frequency_penalty or 0.0,
        presence_penalty=request.presence_penalty or 0.0,
        # llama.cpp's seeds have 32 bits, OpenAI's 64.
        seed=None if request.seed is None else request.seed % 2**32,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        max_tokens=_to_max_tokens(request),
        min_tokens=request.min_tokens or 0,
        logit_bias=_to_logit_bias(request, num_vocab),
        grammar=grammar,
        num_top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
    )


def to_documents(request: ChatRequest, *, is_grounded: bool) -> tuple[PromptDocument, ...]:
    """The passages that the request brings along.

    Raises `InvalidValue` where the answer is made from other documents.
    """
    if request.documents and is_grounded:
        raise InvalidValue(
            "'documents' are read in grounding mode 'off' alone; name the model 'mynah-raw'.",
            param="documents",
        )
    return tuple(PromptDocument(d.title or "", d.text) for d in request.documents or ())


def _to_max_tokens(request: ChatRequest) -> int | None:
    newer = request.max_completion_tokens
    return request.max_tokens if newer is None else newer


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _to_logit_bias(request: ChatRequest, num_vocab: int) -> dict[int, float]:
    biases = {int(token): bias for token, bias in (request.logit_bias or {}).items()}
    for token in biases:
        if token >= num_vocab:
            raise InvalidValue(
                f"'logit_bias' names token {token}, but this model has {num_vocab} tokens.",
                param="logit_bias",
            )
    return biases


def _to_message(message: ChatMessage, param: str) -> Message:
    if message.role in ("tool", "function"):
        raise UnsupportedValue(
            f"'{param}.role': messages of role '{message.role}' are not supported.",
            param=f"{param}.role",
        )
    if message.tool_calls:
        raise UnsupportedValue(
            f"'{param}.tool_calls': tool calls are not supported.", param=f"{param}.tool_calls"
        )
    content = message.content
    if content is None:
        if message.role != "assistant":
            raise MissingParameter(f"'{param}.content' is required.", param=f"{param}.content")
        text = message.refusal or ""
    elif isinstance(content, str):
        text = content
    else:
        text = "\n".join(
            _part_text(part, f"{param}.content[{i}]") for i, part in enumerate(content)
        )
    return Message(role="system" if message.role == "developer" else message.role, content=text)


def _part_text(part: ContentPart, param: str) -> str:
    if part.type not in ("text", "refusal"):
        raise UnsupportedValue(
            f"'{param}.type': content of type '{part.type}' is not supported; send text.",
            param=f"{param}.type",
        )
    text = part.text if part.type == "text" else part.refusal
    if text is None:
        raise MissingParameter(f"'{param}.{part.type}' is required.", param=f"{param}.{part.type}")
    return text
