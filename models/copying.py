"""What in the prompt would go on the way the answer does: the source of `copy_bias`.

A small model that repeats sentences of its prompt knows where it is most of the time, and slips
where two sentences share a few words. The longest run of the answer's last tokens that stands in
the prompt says what comes next; the mixture of a model with such a pointer is that of See et al.
2017 ("Get To The Point", pointer-generator), here as a bias and without training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

# One token in common is chance; two are a beginning.
MIN_RUN = 2
# Before tokens are computed ahead, chance should be rarer.
MIN_DRAFT_RUN = 3


class PromptPointer:
    """Follows an answer through its prompt."""

    def __init__(self, prompt: Sequence[int], ends_run: Callable[[int], bool]) -> None:
        """`ends_run`: whether a token (a line's end, a control token) is never copied."""
        self._prompt = [int(token) for token in prompt]
        self._ends_run = ends_run
        self._answer: list[int] = []
        self._places: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for end in range(MIN_RUN, len(self._prompt)):
            self._places[tuple(self._prompt[end - MIN_RUN : end])].append(end)

    def accept(self, token: int) -> None:
        """Note a token of the answer."""
        self._answer.append(token)

    def next_tokens(self) -> list[int]:
        """Tokens that follow the longest run in common; none where none of two tokens is shared.

        Runs end at the answer's beginning. Each token once, in order.
        """
        found = [self._prompt[place] for place in self._longest_places()[1]]
        return [token for token in dict.fromkeys(found) if not self._ends_run(token)]

    def follow(self, num_tokens: int) -> list[int]:
        """At most so many tokens that would come next if the answer went on as the prompt does.

        None with a run shorter than `MIN_DRAFT_RUN`. The prompt's last such place is taken, and
        nothing beyond where a run ends.
        """
        length, places = self._longest_places()
        if length < MIN_DRAFT_RUN:
            return []
        found: list[int] = []
        for token in self._prompt[places[-1] : places[-1] + num_tokens]:
            if self._ends_run(token):
                break
            found.append(token)
        return found

    def _longest_places(self) -> tuple[int, list[int]]:
        """The longest run's length, and where in the prompt it has just ended."""
        best, found = 0, []
        for place in self._places.get(tuple(self._answer[-MIN_RUN:]), ()):
            length = self._measure(place)
            if length > best:
                best, found = length, [place]
            elif length == best:
                found.append(place)
        return best, found

    def _measure(self, place: int) -> int:
        """Tokens in common before `place` of the prompt and the answer's end."""
        length = MIN_RUN
        answer, prompt = self._answer, self._prompt
        while (
            length < min(len(answer), place) and prompt[place - length - 1] == answer[-length - 1]
        ):
            length += 1
        return length
