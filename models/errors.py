"""The root of every error Mynah raises on purpose, and those of this layer.

    AppError
    └── ModelError
        ├── ModelFileInvalid        not a GGUF, damaged, or without what the engine needs
        ├── ContextLengthExceeded   prompt and answer do not fit the context
        ├── QueueFull               more requests wait than the engine accepts
        ├── DeadlineExceeded        the request was not done in the time it was given
        ├── EngineStopped           the engine was closed or its decode thread failed
        ├── GrammarInvalid          the GBNF grammar does not parse
        ├── SamplingInvalid         a sampling setting is out of range for this model
        ├── PromptInvalid           the chat template refuses these messages
        ├── EmbedderUnavailable     the embedding model cannot be loaded
        ├── RerankerUnavailable     the cross-encoder cannot be loaded
        └── ReaderInvalid           the sentence reader's weights are damaged

An error carries a `code` for programs and a `param` naming the offending input, never an HTTP
status: `server/statuses.py` maps classes to statuses.
"""

from __future__ import annotations


class AppError(Exception):
    """One line that says what is wrong and what to do about it."""

    code: str | None = "internal_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class ModelError(AppError):
    """Something the model layer refuses or cannot do."""

    code = "model_error"


class ModelFileInvalid(ModelError):
    """The file is no GGUF, is damaged, or lacks what the engine needs."""

    code = "model_file_invalid"


class ContextLengthExceeded(ModelError):
    """The prompt and the room asked for the answer do not fit into the context."""

    code = "context_length_exceeded"

    def __init__(self, num_prompt_tokens: int, num_answer_tokens: int, num_ctx: int) -> None:
        super().__init__(
            f"This model's context holds {num_ctx} tokens, but {num_prompt_tokens} tokens of prompt"
            f" and {num_answer_tokens} for the answer were asked for; shorten the messages or lower"
            " max_completion_tokens.",
            param="messages",
        )
        self.num_prompt_tokens = num_prompt_tokens
        self.num_answer_tokens = num_answer_tokens
        self.num_ctx = num_ctx


class QueueFull(ModelError):
    """As many requests are waiting as the engine accepts."""

    code = "rate_limit_exceeded"

    def __init__(self, num_waiting: int, retry_after_s: float) -> None:
        super().__init__(
            f"{num_waiting} requests are waiting already; try again in {retry_after_s:.0f} s."
        )
        self.retry_after_s = retry_after_s


class DeadlineExceeded(ModelError):
    """The request was not done in the time it was given, waiting in the queue included."""

    code = "deadline_exceeded"

    def __init__(self, limit_s: float) -> None:
        super().__init__(
            f"The request was not done in its {limit_s:g} s; ask for less, or when less is going"
            " on."
        )


class EngineStopped(ModelError):
    """The engine was closed, or its decode thread failed, before the answer was complete."""

    code = "engine_stopped"


class GrammarInvalid(ModelError):
    """The GBNF grammar does not parse."""

    code = "invalid_value"


class SamplingInvalid(ModelError):
    """A sampling setting is out of range, such as a token id that the vocabulary lacks."""

    code = "invalid_value"


class PromptInvalid(ModelError):
    """The model's chat template refuses these messages."""

    code = "invalid_value"


class EmbedderUnavailable(ModelError):
    """The embedding model cannot be loaded."""

    code = "embedder_unavailable"


class RerankerUnavailable(ModelError):
    """The cross-encoder cannot be loaded."""

    code = "reranker_unavailable"


class ReaderInvalid(ModelError):
    """The weights of the sentence reader are damaged or do not fit the embedder."""

    code = "reader_invalid"
