"""Hits widened inside their sections, and prompts that hold whole passages, best first."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from index.types import Document, Hit, Passage, Section
from models.protocols import Message
from server.grounding.neighbours import widen_hits
from server.grounding.prompt import build_prompt, show_whole
from tests.fakes import ScriptedEngine

LINES = [f"passage {n} says" + " so" * (n % 5) for n in range(12)]
TEXT = "\n\n".join(LINES)
DOCUMENT = Document("d", "docs", "a.txt", "text/plain", "0", 1, 12, 0, None, (), {})


def make_passages() -> list[Passage]:
    passages, start = [], 0
    for id_, line in enumerate(LINES):
        end = start + len(line)
        passages.append(Passage(id_, "d", id_, start, end, ("Part",), None, 1, line))
        start = end + 2
    return passages


def make_hit(id_: int) -> Hit:
    return Hit(make_passages()[id_], DOCUMENT, 1.0 - id_ / 100, 1, None, None)


def read_section(hit: Hit) -> Section:
    return Section(tuple(make_passages()), TEXT)


def measure(text: str) -> int:
    return len(text.split())


IDS = st.lists(st.integers(0, 11), min_size=1, max_size=6, unique=True)


@given(ids=IDS, room=st.integers(-5, 120))
def test_widened_hits_are_slices_that_hold_their_passage_and_never_overlap(
    ids: list[int], room: int
) -> None:
    hits = [make_hit(id_) for id_ in ids]
    widened = widen_hits(hits, read_section, measure, room)
    assert [hit.passage.id for hit in widened] == ids
    added = 0
    for before, after in zip(hits, widened, strict=True):
        assert TEXT[after.passage.start : after.passage.end] == after.passage.text
        assert after.passage.start <= before.passage.start
        assert after.passage.end >= before.passage.end
        added += measure(after.passage.text) - measure(before.passage.text)
    assert added <= max(room, 0)
    spans = sorted((hit.passage.start, hit.passage.end) for hit in widened)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_the_best_hit_takes_its_whole_section_where_there_is_room() -> None:
    (widened,) = widen_hits([make_hit(4)], read_section, measure, 10_000)
    assert widened.passage.text == TEXT


def test_a_hit_whose_section_is_gone_stays_as_it_is() -> None:
    hit = make_hit(3)
    gone = Section((make_passages()[7],), LINES[7])
    assert widen_hits([hit], lambda _: gone, measure, 100) == [hit]


@settings(deadline=None)
@given(ids=IDS, num_ctx=st.integers(20, 160), num_answer_tokens=st.integers(0, 10))
def test_passages_stand_in_the_prompt_whole_and_best_first_and_the_rest_is_named(
    ids: list[int], num_ctx: int, num_answer_tokens: int
) -> None:
    engine = ScriptedEngine(num_ctx=num_ctx)
    hits = [make_hit(id_) for id_ in ids]
    grounded = build_prompt(
        engine,
        [Message("user", "What is said?")],
        show_whole(hits),
        num_answer_tokens=num_answer_tokens,
        instruction=None,
    )
    assert grounded.prompt.num_tokens + num_answer_tokens <= num_ctx
    kept = [passage.id for passage in grounded.kept]
    dropped = [passage.id for passage in grounded.dropped]
    assert kept == [id_ for id_ in ids if id_ in kept]
    assert sorted([*kept, *dropped]) == sorted(ids)
    # What was dropped is too large for what is left; its title is "a.txt > Part".
    left = num_ctx - num_answer_tokens - grounded.prompt.num_tokens
    assert all(measure(LINES[id_]) + 3 > left for id_ in dropped)
    engine.prepare([], [item.document for item in show_whole(grounded.hits)])
    assert [document.text for document in engine.documents] == [LINES[id_] for id_ in kept]
