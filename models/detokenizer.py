"""Token bytes to the text a client may see: whole characters, stop strings held back."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Grows by the bytes of one token after the other.

    Text leaves only when it is certain: not while a UTF-8 character is incomplete, nor while its
    end may be the beginning of a stop string. Bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = tuple(stop for stop in stops if stop)
        self._num_held_max = max((len(stop) - 1 for stop in self._stops), default=0)
        self._held = ""
        self.is_stopped = False
        # Characters of the text so far, those that were held back included.
        self.num_decoded = 0

    @property
    def is_partial(self) -> bool:
        """Whether the last piece ended inside a character."""
        return bool(self._decoder.getstate()[0])

    def push(self, piece: bytes, *, may_stop: bool = True) -> str:
        """Return the text that has become certain; sets `is_stopped` at a stop string.

        Without `may_stop` a stop string that is complete now passes as text.
        """
        if self.is_stopped:
            return ""
        decoded = self._decoder.decode(piece)
        self.num_decoded += len(decoded)
        text = self._held + decoded
        ends = [place for stop in self._stops if (place := text.find(stop)) >= 0 and may_stop]
        if ends:
            self.is_stopped, self._held = True, ""
            return text[: min(ends)]
        num_held = self._num_held(text)
        self._held = text[len(text) - num_held :]
        return text[: len(text) - num_held]

    def finish(self) -> str:
        """Return what was held back; an incomplete last character is dropped."""
        held, self._held = self._held, ""
        return held

    def _num_held(self, text: str) -> int:
        for length in range(min(self._num_held_max, len(text)), 0, -1):
            tail = text[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0
