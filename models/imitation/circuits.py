"""Heads that copy and heads that compare, written into a decoder before training.

A few million tokens are too few for a decoder to find copying by itself, so the circuits that this
task is made of are written into the weights, and training is free to move away from them:

- copying, of two kinds of head ("A Mathematical Framework for Transformer Circuits", Elhage et al.
  2021): block 0 looks at the tokens before, block 1 for what followed the same tokens earlier on;
- comparing: block 0 marks what stands in a question and in an answer, block 1 finds the words of
  an answer that the question holds too, block 2 turns their share into the verdict.

Gains were chosen so that a match wins its softmax by about 8 nats and a write is of the size of the
residual stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.imitation.architecture import Attention, Decoder
from models.imitation.tokenizer import (
    ASSISTANT,
    BOS,
    CONTROL_TOKENS,
    DOCUMENT,
    END,
    NO,
    USER,
    control_id,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

STD = 1.0
# Dimensions of the residual stream that carry no content at the start.
NUM_RESERVED = 9
CONSTANT, CONTROL, USER_MARK, ASSISTANT_MARK, BOS_MARK = -1, -2, -3, -4, -5
IN_QUESTION, IN_ANSWER, MATCHED, VERDICT = -6, -7, -8, -9


@dataclass(frozen=True)
class Tokens:
    """Ids that the circuits know by name; `mark` opens a citation."""

    bos: int
    document: int
    user: int
    assistant: int
    end: int
    no: int
    mark: int
    control: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Tokens:
        """Return the ids of a tokenizer made by `tokenizer.train`."""
        mark = tokenizer.encode(" [1]", add_special_tokens=False).ids[0]
        bos, document, user, assistant, end, no = (
            control_id(tokenizer, name) for name in (BOS, DOCUMENT, USER, ASSISTANT, END, NO)
        )
        control = tuple(control_id(tokenizer, name) for name in CONTROL_TOKENS)
        return cls(bos, document, user, assistant, end, no, mark, control)


@dataclass(frozen=True)
class Subspaces:
    """Random orthonormal rows `[.., width]` of the residual stream, agreed on by all blocks."""

    content: Tensor  # what a token is
    before: Tensor  # where the two tokens before it are kept, one head width each
    subject: Tensor  # by what an answer's words are compared with a question's
    values: Tensor  # what is copied


@torch.no_grad()
def set_circuits(decoder: Decoder, tokens: Tokens, seed: int = 2) -> None:
    """Write the circuits into blocks 0 to 2.

    Raises ValueError unless there are three blocks, two key heads and heads 64 wide.
    """
    shape = decoder.shape
    width, head = shape.width, shape.head_width
    if shape.num_layers < 3 or shape.num_kv_heads != 2 or shape.num_heads != 4 or head != 64:
        raise ValueError("circuits need 3 blocks, 4 query and 2 key heads, and heads 64 wide")
    generator = torch.Generator().manual_seed(seed)
    _mark_tokens(decoder, tokens)
    subspaces = Subspaces(
        content=_orthonormal(head, width, generator),
        before=_orthonormal(2 * head, width, generator),
        values=_orthonormal(head, width, generator),
        subject=_orthonormal(28, width, generator),
    )
    blocks: list[Attention] = [block.attention for block in decoder.blocks]  # type: ignore[misc]
    rates = shape.rope_base ** (-torch.arange(head // 2) / (head // 2))
    blocks[0].k.weight.zero_()
    _look_back(blocks[0], subspaces, rates, head)
    _mark_parts(blocks[0], head)
    blocks[1].k.weight *= 0.1
    blocks[1].q.weight *= 0.1
    _copy(blocks[1], subspaces, head)
    _compare(blocks[1], subspaces, head)
    _judge(blocks[2], head)


def _orthonormal(num_rows: int, width: int, generator: torch.Generator) -> Tensor:
    """Return orthonormal rows that leave the reserved dimensions alone."""
    num_content = width - NUM_RESERVED
    square = torch.randn(num_content, num_content, generator=generator)
    rows = torch.linalg.qr(square)[0][:num_rows]
    return torch.cat([rows, torch.zeros(num_rows, NUM_RESERVED)], dim=1)


def _mark_tokens(decoder: Decoder, tokens: Tokens) -> None:
    """Fill the reserved dimensions of the embedding."""
    table = decoder.embedding.weight
    table[:, -NUM_RESERVED:] = 0
    table[:, CONSTANT] = 3 * STD
    control = list(tokens.control)
    table[control, :-NUM_RESERVED] *= 0.5
    table[[tokens.document, tokens.user, tokens.assistant], CONTROL] = 8 * STD
    table[tokens.user, USER_MARK] = 8 * STD
    table[tokens.assistant, ASSISTANT_MARK] = 8 * STD
    table[tokens.bos, BOS_MARK] = 8 * STD
    table[[tokens.mark, tokens.end], VERDICT] = 4 * STD
    table[tokens.no, VERDICT] = -4 * STD


def _look_back(block: Attention, subspaces: Subspaces, rates: Tensor, head: int) -> None:
    """Query heads 0 and 1 read key head 0: one and two tokens back, by RoPE's fast pairs."""
    block.k.weight[0:12:2, CONSTANT] = 3.0
    block.v.weight[:head] = subspaces.content
    for q_head in (0, 1):
        rows = slice(q_head * head, (q_head + 1) * head)
        block.q.weight[rows] = 0
        for pair in range(6):
            angle = -rates[pair] * (1 + q_head)
            block.q.weight[q_head * head + 2 * pair, CONSTANT] = 3.0 * torch.cos(angle)
            block.q.weight[q_head * head + 2 * pair + 1, CONSTANT] = 3.0 * torch.sin(angle)
        block.o.weight[:, rows] = 1.6 * subspaces.before[rows].T


def _mark_parts(block: Attention, head: int) -> None:
    """Query head 2 looks at the nearest control token and notes which part this is.

    Pairs that turn once in 100 to 3,000 tokens, added up, favour what is near.
    """
    block.q.weight[2 * head : 3 * head] = 0
    for pair in (7, 9, 11, 13, 15):
        block.q.weight[2 * head + 2 * pair, CONSTANT] = 1.0
        block.k.weight[head + 2 * pair, CONTROL] = 1.2
    block.v.weight[head : head + 2] = 0
    block.v.weight[head, USER_MARK] = 0.44
    block.v.weight[head + 1, ASSISTANT_MARK] = 0.44
    block.o.weight[:, 2 * head : 2 * head + 2] = 0
    block.o.weight[IN_QUESTION, 2 * head] = 2.0
    block.o.weight[IN_ANSWER, 2 * head + 1] = 3.0


def _copy(block: Attention, subspaces: Subspaces, head: int) -> None:
    """Query heads 0 and 1 look for what stood after this token and the one before it."""
    slow = torch.arange(head // 2, head)  # dimensions that RoPE hardly turns
    long, short = 20, head // 2 - 20
    before = subspaces.before
    block.v.weight[:head] = subspaces.values
    block.k.weight[slow] += 2.0 * torch.cat([before[:long], before[head : head + short]])
    for q_head in (0, 1):
        queries = torch.cat([subspaces.content[:long], before[:short]])
        block.q.weight[q_head * head + slow] += 2.0 * queries
        block.o.weight[:, q_head * head : (q_head + 1) * head] = 5.0 * subspaces.values.T


def _compare(block: Attention, subspaces: Subspaces, head: int) -> None:
    """Query heads 2 and 3 look for this token in the question, or else at the beginning."""
    alike = torch.arange(head // 2, head - 4)
    gate, sink = head - 4, head - 2
    block.k.weight[head + alike] += 1.85 * subspaces.subject
    block.k.weight[head + gate] = 0
    block.k.weight[head + gate, IN_QUESTION] = 2.6
    block.k.weight[head + sink] = 0
    block.k.weight[head + sink, BOS_MARK] = 5.0
    block.v.weight[head] = 0
    block.v.weight[head, IN_QUESTION] = 0.5
    for start in (2 * head, 3 * head):
        block.q.weight[start + alike] += 1.85 * subspaces.subject
        for dimension in (gate, sink):
            block.q.weight[start + dimension] = 0
            block.q.weight[start + dimension, CONSTANT] = 2.5
        block.o.weight[:, start] = 0
        block.o.weight[MATCHED, start] = 4.0


def _judge(block: Attention, head: int) -> None:
    """Query head 0 averages the matches of the answer so far and writes the verdict."""
    slowest = head - 2
    block.q.weight[:head] = 0
    block.q.weight[slowest, CONSTANT] = 2.8
    block.k.weight[:head] *= 0.1
    block.k.weight[slowest] = 0
    block.k.weight[slowest, IN_ANSWER] = 2.8
    block.v.weight[0] = 0
    block.v.weight[0, MATCHED] = 2.0
    block.v.weight[0, CONSTANT] = -1.0
    block.o.weight[:, 0] = 0
    block.o.weight[VERDICT, 0] = 12.0
