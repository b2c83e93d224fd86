"""The request of `POST /v1/chat/completions`: field types and ranges.

Types are strict (no `"1"` for `1`), `null` means absent, and what is not listed here is refused:
a client learns of a mistyped or unserved option instead of wondering why it does nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from server.grounding.types import Mode

Number = Annotated[float, Field(allow_inf_nan=False)]
Penalty = Annotated[Number, Field(ge=-2, le=2)]
Bias = Annotated[Number, Field(ge=-100, le=100)]
TokenKey = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
ShortText = Annotated[str, Field(max_length=512)]
StopText = Annotated[str, Field(min_length=1, max_length=1000)]
CollectionName = Annotated[str, Field(min_length=1, max_length=200)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Tier = Literal["auto", "default", "flex", "scale", "priority", "fast"]


def _text_or_list(value: object) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<list>" if isinstance(value, list) else None


def _discriminator(expected: str) -> Discriminator:
    return Discriminator(
        _text_or_list,
        custom_error_type="text_or_list",
        custom_error_message=f"must be {expected}",
    )


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Lenient(BaseModel):
    """Clients send a reply's message back whole, with keys that only replies have."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class ContentPart(_Lenient):
    """One part of a message's content; only text and refusals are read."""

    type: Literal["text", "refusal", "image_url", "input_audio", "file"]
    text: str | None = None
    refusal: str | None = None


Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[ContentPart], Tag("<list>")],
    _discriminator("a string or an array of content parts"),
]


class ChatMessage(_Lenient):
    """One turn of the conversation as the client sends it."""

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: ShortText | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None


class StreamOptions(_Strict):
    """Options of a streamed reply; obfuscation is accepted and has no effect."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchemaFormat(_Strict):
    """The schema that the answer's JSON keeps to, whether `strict` is asked for or not."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: ShortText | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema", default_factory=dict)]
    strict: bool | None = None


class ResponseFormat(_Lenient):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class GroundingOptions(_Strict):
    """Mynah's extension: how this request is answered from the documents."""

    mode: Mode | None = None
    collections: Annotated[list[CollectionName], Field(min_length=1, max_length=100)] | None = None
    max_passages: Annotated[int, Field(ge=1, le=64)] | None = None
    min_evidence: Annotated[Number, Field(ge=0, le=1)] | None = None
    filters: dict[str, Any] | None = None


class ChatDocument(_Strict):
    """A passage that the request brings along; Mynah's extension, named as other servers do."""

    title: Annotated[str, Field(max_length=1000)] | None = None
    text: Annotated[str, Field(min_length=1, max_length=1_000_000)]


class ChatRequest(_Strict):
    """Every field of the request. `docs/api.md` says what each one does."""

    # Acted on.
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    model: Annotated[str, Field(min_length=1, max_length=300)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    stop: (
        Annotated[
            Annotated[StopText, Tag("<text>")]
            | Annotated[list[StopText], Field(max_length=4), Tag("<list>")],
            _discriminator("a string or an array of at most four strings"),
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenKey, Bias], Field(max_length=1024)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # Mynah's own.
    grounding: GroundingOptions | None = None
    documents: Annotated[list[ChatDocument], Field(max_length=256)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[Number, Field(gt=0, le=10)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    grammar: Annotated[str, Field(min_length=1, max_length=65_536)] | None = None

    # Checked, and only the value that means "off" is served.
    modalities: list[Literal["text", "audio"]] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None

    # Refused when present.
    audio: Any = None
    moderation: Any = None
    prediction: Any = None
    web_search_options: Any = None

    # Accepted, without effect here.
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], ShortText],
            Field(max_length=16),
        ]
        | None
    ) = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: ShortText | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    reasoning_effort: Effort | None = None
    safety_identifier: ShortText | None = None
    service_tier: Tier | None = None
    store: bool | None = None
    user: ShortText | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
