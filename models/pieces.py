"""The pieces of a prompt: its passages and the short scaffold between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from models.protocols import Block
from models.vocabulary import TokenIds

# Longer scaffold between passages says something of its own and is computed in its place.
_MAX_JOINT_TOKENS = 32
# Bits above any token id: a piece's tokens are not the same cells as those tokens in plain text.
_PIECE_START, _IN_PIECE = 1 << 30, 1 << 29


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens `[start, end)` of a prompt, of which the first `num_link` are computed in place."""

    start: int
    end: int
    owner: str = ""
    num_link: int = 0

    @property
    def placed_from(self) -> int:
        """The first token that is placed."""
        return self.start + self.num_link


def cut_pieces(blocks: Sequence[Block], link_tokens: int) -> tuple[Piece, ...]:
    """The pieces of a prompt's passages and of the scaffold between them.

    With link tokens the scaffold is computed together with them. The first passage needs none: it
    sees in its place what it saw when it was computed.
    """
    pieces = []
    for number, block in enumerate(blocks):
        num_link = min(link_tokens, block.end - block.start - 1) if number else 0
        pieces.append(Piece(block.start, block.end, block.owner, num_link))
    if link_tokens:
        return tuple(pieces)
    joints = [
        Piece(a.end, b.start)
        for a, b in pairwise(pieces)
        if 0 < b.start - a.end <= _MAX_JOINT_TOKENS
    ]
    return tuple(sorted([*pieces, *joints], key=lambda piece: piece.start))


def mark_pieces(tokens: TokenIds, pieces: Sequence[Piece]) -> TokenIds:
    """The prompt as the cache of beginnings knows it: equal only where the cells are equal."""
    marked = tokens.copy()
    for piece in pieces:
        marked[piece.start : piece.end] |= _IN_PIECE
        marked[piece.start] |= _PIECE_START
    return marked


def has_pieces(marked: TokenIds) -> bool:
    """Whether a prompt as the cache knows it has placed passages."""
    return bool((marked >= _IN_PIECE).any())
