"""What a prompt must be to be taken at all."""

from __future__ import annotations

from models.errors import ContextLengthExceeded, PromptInvalid
from models.protocols import ModelInfo, Prompt


def check_prompt(prompt: Prompt, num_answer_tokens: int, info: ModelInfo) -> None:
    """Raise `PromptInvalid`, or `ContextLengthExceeded` where the answer does not fit behind it."""
    if not prompt.tokens:
        raise PromptInvalid("The prompt is empty.", param="messages")
    if min(prompt.tokens) < 0 or max(prompt.tokens) >= info.num_vocab:
        raise PromptInvalid(
            f"The prompt holds token ids outside 0 to {info.num_vocab - 1}.", param="messages"
        )
    if prompt.num_tokens + num_answer_tokens > info.num_ctx:
        raise ContextLengthExceeded(prompt.num_tokens, num_answer_tokens, info.num_ctx)
