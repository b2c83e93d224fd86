"""Which sampling settings a model can follow."""

from __future__ import annotations

import math

from models.errors import SamplingInvalid
from models.protocols import SamplingSettings

MAX_TOP_LOGPROBS = 20


def check_sampling(settings: SamplingSettings, num_vocab: int) -> None:
    """Raise `SamplingInvalid` naming the first setting that is out of range."""
    s = settings
    ranges = (
        ("temperature", s.temperature, 0.0, math.inf),
        ("top_p", s.top_p, 0.0, 1.0),
        ("top_k", s.top_k, 0, math.inf),
        ("min_p", s.min_p, 0.0, 1.0),
        ("frequency_penalty", s.frequency_penalty, -math.inf, math.inf),
        ("presence_penalty", s.presence_penalty, -math.inf, math.inf),
        ("copy_bias", s.copy_bias, 0.0, math.inf),
    )
    for name, value, lowest, highest in ranges:
        if not (math.isfinite(value) and lowest <= value <= highest):
            raise SamplingInvalid(f"{name} is {value}; it is out of range.", param=name)
    if not (math.isfinite(s.repeat_penalty) and s.repeat_penalty > 0):
        raise SamplingInvalid(
            f"repeat_penalty is {s.repeat_penalty}; it must be above 0.", param="repeat_penalty"
        )
    if s.max_tokens is not None and s.max_tokens < 0:
        raise SamplingInvalid(f"max_tokens is {s.max_tokens}; 0 is the least.", param="max_tokens")
    if s.deadline_s is not None and not s.deadline_s > 0:
        raise SamplingInvalid(f"deadline_s is {s.deadline_s}; it must be above 0.")
    _check_extent(s, num_vocab)
    if s.outline and (s.grammar is not None or not all(s.outline)):
        raise SamplingInvalid("outline goes with no grammar, and none of it is empty.")
    for token, bias in s.logit_bias.items():
        if not 0 <= token < num_vocab:
            raise SamplingInvalid(
                f"logit_bias names token {token}; this model has tokens 0 to {num_vocab - 1}.",
                param="logit_bias",
            )
        if math.isnan(bias):
            raise SamplingInvalid("logit_bias holds a value that is no number.", param="logit_bias")


def _check_extent(s: SamplingSettings, num_vocab: int) -> None:
    if not 0 <= s.min_tokens <= (math.inf if s.max_tokens is None else s.max_tokens):
        raise SamplingInvalid(
            f"min_tokens is {s.min_tokens}; it goes from 0 to max_tokens.", param="min_tokens"
        )
    if s.min_tokens and (s.grammar is not None or s.outline):
        raise SamplingInvalid(
            "min_tokens goes with no grammar: the grammar says where the text ends.",
            param="min_tokens",
        )
    if s.num_top_logprobs is not None:
        if not 0 <= s.num_top_logprobs <= min(MAX_TOP_LOGPROBS, num_vocab):
            raise SamplingInvalid(
                f"top_logprobs is {s.num_top_logprobs}; {MAX_TOP_LOGPROBS} are the most.",
                param="top_logprobs",
            )
        if s.outline:
            raise SamplingInvalid("logprobs go with no outline.", param="logprobs")
