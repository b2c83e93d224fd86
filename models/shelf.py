"""Conversations whose cells were given up, kept as states in memory until they go on.

llama.cpp's attention on a processor passes over every cell up to the last one in use, so what is
kept in cells for later is paid for by everybody now. A state costs its memory and nothing else, and
is back in its cells in the time of a few tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from models.context import Context
from models.engine_settings import EngineSettings
from models.kvfolder import State
from models.pieces import has_pieces
from models.prefixes import common_prefix
from models.vocabulary import TokenIds

# Fewer are computed again in about the time that it takes to save and restore them.
_LEAST_TOKENS = 32
# Of the memory for states of passages, the part that conversations may take beside them.
_SHARE = 4


class StateHolder(Protocol):
    """What the states come from: a context."""

    def save(self, sequence: int) -> State: ...


@dataclass(slots=True)
class Shelf:
    """States by the tokens they hold, the least recently used first; used by one thread.

    Those with placed passages are not taken: their passages are kept elsewhere.
    """

    holder: StateHolder
    max_bytes: int
    least_tokens: int = _LEAST_TOKENS
    num_bytes: int = 0
    _states: OrderedDict[bytes, tuple[TokenIds, State]] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._states)

    def put(self, tokens: TokenIds, sequence: int) -> bool:
        """Keep the state of a sequence that holds `tokens`; whether it is there afterwards."""
        if len(tokens) < self.least_tokens or has_pieces(tokens):
            return False
        for key, (held, _) in reversed(self._states.items()):
            last = min(len(held), len(tokens)) - 1
            # There may be a thousand: most are told apart by one token.
            if held[last] != tokens[last]:
                continue
            length = common_prefix(held, tokens)
            if length == len(tokens):
                self._states.move_to_end(key)
                return True
            if length == len(held):
                # The same conversation, further on.
                self._take(key)
                break
        # A copy: tokens may be a view of more.
        state = self.holder.save(sequence)
        self.num_bytes += state.nbytes
        self._states[tokens.tobytes()] = (tokens.copy(), state)
        while self.num_bytes > self.max_bytes:
            self._take(next(iter(self._states)))
        return tokens.tobytes() in self._states

    def find(self, tokens: TokenIds, num_known: int) -> tuple[State, int, int] | None:
        """The state that begins most like `tokens`, its tokens and how many of them agree.

        None where none agrees for much longer than the `num_known` that are had without it.
        """
        best, most = None, num_known + self.least_tokens - 1
        for key, (held, _) in self._states.items():
            if min(len(held), len(tokens)) <= most or held[most] != tokens[most]:
                continue
            length = common_prefix(held, tokens)
            if length > most:
                best, most = key, length
        if best is None:
            return None
        self._states.move_to_end(best)
        held, state = self._states[best]
        return state, len(held), most

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()
        self.num_bytes = 0

    def _take(self, key: bytes) -> None:
        _, state = self._states.pop(key)
        self.num_bytes -= state.nbytes


def open_shelf(context: Context, settings: EngineSettings) -> Shelf | None:
    """A shelf for what leaves the cells of `context`; None where kept cells cost nothing.

    That is on a GPU. And where cells cannot be shared, or put back in part.
    """
    if settings.num_gpu_layers or settings.reuse == "off" or not context.can_compact:
        return None
    return Shelf(context, settings.passage_ram_bytes // _SHARE)
