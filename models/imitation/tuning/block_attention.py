"""Block-diagonal attention over passages: each sees what stands before all of them, and itself.

A passage's keys and values then depend on nothing but the prefix and the passage, so that an
engine may compute them once and place them into any prompt. Question and answer see everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from models.imitation.errors import CheckpointUnsupported
from models.marking import Segment
from models.protocols import Message, PromptDocument
from models.tokens import PromptTokenizer

if TYPE_CHECKING:
    from torch import Tensor

Blocks = npt.NDArray[np.int16]
KEY = "mynah.block_attention"


class Span(NamedTuple):
    """A run of ids `[start, end)` and the message or document it stems from."""

    start: int
    end: int
    source: int | None


def spans_of(runs: Sequence[tuple[Segment, Sequence[int]]], shift: int = 0) -> list[Span]:
    """Where the runs of a rendered conversation stand; `shift` ids were put in front."""
    spans, position = [], shift
    for run, ids in runs:
        spans.append(Span(max(position, 0), max(position + len(ids), 0), run.source))
        position += len(ids)
    return spans


class PassageBlocks:
    """Finds the passages in rendered conversations.

    Raises `CheckpointUnsupported` for a template that has no use for `documents`.
    """

    def __init__(self, tokenizer: PromptTokenizer) -> None:
        if not tokenizer.template.has_documents:
            raise CheckpointUnsupported(
                "block attention needs a chat template that writes the variable `documents`;"
                " choose another --template or leave --block-attention out.",
                param="block_attention",
            )
        self._tokenizer = tokenizer
        self._num_closing = self._count_closing()

    def _count_closing(self) -> int:
        """How many ids close a passage: those that follow every one of them, the last one too."""
        probe = [PromptDocument("title", "text")] * 2
        messages = [Message("user", "question")]
        runs = self._tokenizer.encode_runs(self._tokenizer.template.render(messages, probe))
        ids = [token for _, part in runs for token in part]
        spans = spans_of(runs)
        ends = [_range_of(spans, source) for source in (1, 2)]
        if ends[0] is None or ends[1] is None:
            return 0
        return _num_common(ids[ends[0][1] : ends[1][0]], ids[ends[1][1] :])

    def find(
        self,
        ids: Sequence[int],
        spans: Sequence[Span],
        messages: Sequence[Message],
        num_documents: int,
    ) -> Blocks:
        """Return for each id the number of its passage, from 1, and 0 outside of passages."""
        blocks = np.zeros(len(ids), np.int16)
        found = [_range_of(spans, len(messages) + i) for i in range(num_documents)]
        ranges = [place for place in found if place is not None]
        if not ranges:
            return blocks
        without = self._tokenizer.prepare(messages, add_generation_prompt=False).tokens
        start = min(_num_common(ids, without), ranges[0][0])
        for number, (_, end) in enumerate(ranges, 1):
            closed = end + self._num_closing
            blocks[start:closed] = number
            start = closed
        return blocks


def attention_mask(examples: Tensor, blocks: Tensor) -> Tensor:
    """Return the bool mask `[batch, 1, length, length]`, true where a row may see a column.

    `examples` and `blocks` are int `[batch, length]`. A token sees earlier ones of its own example
    and, inside a passage, of no other passage.
    """
    same = examples[:, :, None] == examples[:, None, :]
    rows, columns = blocks[:, :, None], blocks[:, None, :]
    visible = same & ((rows == 0) | (columns == 0) | (rows == columns))
    return visible.tril()[:, None]


def _range_of(spans: Sequence[Span], source: int) -> tuple[int, int] | None:
    found = [span for span in spans if span.source == source]
    return (found[0].start, found[-1].end) if found else None


def _num_common(one: Sequence[int], other: Sequence[int]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
