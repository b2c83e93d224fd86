from __future__ import annotations

from itertools import takewhile

from hypothesis import given, settings
from hypothesis import strategies as st

from models.copying import MIN_RUN, PromptPointer

END = 0
TOKENS = st.lists(st.integers(1, 4), min_size=3, max_size=40)


def follow(prompt: list[int], answer: list[int]) -> list[int]:
    pointer = PromptPointer(prompt, lambda token: token == END)
    for token in answer:
        pointer.accept(token)
    return pointer.next_tokens()


def test_the_longest_run_in_common_decides() -> None:
    prompt = [7, 5, 6, 1, END, 8, 5, 6, 2, END]
    assert follow(prompt, [5, 6]) == [1, 2]
    assert follow(prompt, [8, 5, 6]) == [2]
    assert follow(prompt, [9, 7, 5, 6]) == [1]


def test_nothing_is_copied_on_one_token_nor_past_an_end() -> None:
    assert follow([5, 6, 7], [5]) == []
    assert follow([5, 6, END, 7], [5, 6]) == []
    assert follow([5, 6, 7], [6, 5]) == []


@settings(deadline=None)
@given(TOKENS, st.data())
def test_a_copied_stretch_can_always_go_on(prompt: list[int], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(prompt) - MIN_RUN - 1))
    end = data.draw(st.integers(start + MIN_RUN, len(prompt) - 1))
    assert prompt[end] in follow(prompt, prompt[start:end])


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_it_equals_a_search_of_all_places(prompt: list[int], answer: list[int]) -> None:
    def common(place: int) -> int:
        pairs = zip(reversed(prompt[:place]), reversed(answer), strict=False)
        return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))

    lengths = {place: common(place) for place in range(MIN_RUN, len(prompt))}
    longest = max(lengths.values(), default=0)
    wanted = {prompt[p] for p, length in lengths.items() if length == longest >= MIN_RUN}
    assert set(follow(prompt, answer)) == wanted
