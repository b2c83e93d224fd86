"""The place of a request among sequences and cells."""

from __future__ import annotations

from dataclasses import dataclass

from models.prefixes import Node


@dataclass(eq=False, slots=True)
class Slot:
    """The place of one admitted request.

    `sequence` holds its prompt, of which `num_cached` tokens were there already at its admission;
    `spare_sequences` are for continuations. `node` ends the part of its tokens that others may
    share, of which the first `num_filled` have cells.
    """

    sequence: int
    num_cells: int
    num_cached: int
    spare_sequences: tuple[int, ...]
    node: Node
    num_filled: int
    is_forgotten: bool = False

    @property
    def is_filling(self) -> bool:
        """Whether cells of the shared part are still to be computed or noted."""
        return self.num_filled < self.node.end

    @property
    def num_private(self) -> int:
        """Cells promised to this request alone."""
        return self.num_cells - self.node.end
