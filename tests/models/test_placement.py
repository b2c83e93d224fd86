"""Passages are placed as if they had been computed alone behind the prompt's beginning."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.passages import compute_logits
from models.batch import Run
from models.drawing import Logits
from models.engine import LlamaEngine, open_engine
from models.pieces import cut_pieces, mark_pieces
from models.protocols import Block, Message, Prompt, PromptDocument, SamplingSettings
from tests.gguf_factory import write_tiny_gguf
from tests.models.engines import assert_nothing_leaks, end_of, text_of, wait_until_idle

SYSTEM = Message("system", "Answer from the documents.")
QUESTION = Message("user", "When does the office open?")
WORDS = (
    "The handbook says that each parent receives sixteen weeks of leave and that the office opens"
    " at nine in the morning passages documents question answers sentence system nothing"
).split()
Open = Callable[..., LlamaEngine]


def _documents(num_documents: int, seed: int = 0, num_words: int = 40) -> list[PromptDocument]:
    rng = random.Random(seed)
    return [
        PromptDocument(f"part {n}", " ".join(rng.choices(WORDS, k=num_words)), f"doc{n}")
        for n in range(num_documents)
    ]


@pytest.fixture
def open_one(wide_gguf: Path) -> Iterator[Open]:
    opened = []

    def open_(**settings: Any) -> LlamaEngine:
        given = {
            "num_threads": 1, "chunk_tokens": 64, "reuse": "passages", "kv_type": "f32",
            "flash_attention": False,
        }  # fmt: skip
        engine = open_engine(settings.pop("path", wide_gguf), **{**given, **settings})
        opened.append(engine)
        return engine

    yield open_
    for engine in opened:
        engine.close()


def _ask(
    engine: LlamaEngine, documents: list[PromptDocument], num_tokens: int = 12
) -> tuple[str, int]:
    """The greedy answer and the number of tokens that were not computed for it."""
    prompt = engine.prepare([SYSTEM, QUESTION], documents)
    bias = {int(token): -1000.0 for token in engine._model.vocabulary.eog_ids}
    deltas = list(engine.generate(prompt, SamplingSettings(max_tokens=num_tokens, logit_bias=bias)))
    wait_until_idle(engine)
    usage = deltas[-1].usage
    assert usage is not None
    return "".join(delta.text for delta in deltas), usage.num_cached_tokens


def _cosine(one: Logits, other: Logits) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def _block_wise(engine: LlamaEngine, prompt: Prompt) -> Logits:
    """The prompt's logits with every piece computed at its own place, behind the prefix alone."""
    context, tokens = engine._context, np.array(prompt.tokens, dtype=np.int32)
    start, job = prompt.blocks[0].start, None
    context.decode([Run(job, 0, 0, tokens[:start], 0)])  # type: ignore[arg-type]
    for number, piece in enumerate(cut_pieces(prompt.blocks, 0), start=1):
        # Positions of a sequence follow each other, so the prefix is moved up to the piece.
        context.copy_prefix(0, number, start)
        end = piece.end - piece.start
        run = Run(job, number, start, tokens[piece.start : piece.end], 0)  # type: ignore[arg-type]
        context.decode([run])
        context.drop_beginning(number, start)
        context.move(number, piece.start - start)
        context.add(number, 0)
        context.drop(number)
        assert context.num_positions(0) == piece.start + end
    end = prompt.blocks[-1].end
    rows = context.decode([Run(job, 0, end, tokens[end:], 1)])  # type: ignore[arg-type]
    logits: Logits = rows[0].copy()
    context.drop(0)
    return logits


@pytest.mark.parametrize(
    ("kv_type", "flash_attention", "least"),
    [
        ("f32", False, 0.99999),
        ("f16", True, 0.9999),
        ("f16", False, 0.9999),
        # Each context as suits it, so states are laid out anew between them.
        ("f16", None, 0.9999),
    ],
)
def test_placed_passages_give_the_logits_of_block_wise_prefill(
    open_one: Open, kv_type: str, flash_attention: bool | None, least: float
) -> None:
    engine = open_one(kv_type=kv_type, flash_attention=flash_attention, chunk_tokens=512)
    prompt = engine.prepare([SYSTEM, QUESTION], _documents(4))
    cold = asyncio.run(compute_logits(engine, prompt))
    warm = asyncio.run(compute_logits(engine, prompt))
    engine.forget_prefixes()
    wait_until_idle(engine)
    time.sleep(0.05)
    by_llama = _block_wise(engine, prompt)
    assert _cosine(cold, warm) > 0.99999
    assert _cosine(warm, by_llama) > least
    assert warm.argmax() == by_llama.argmax()


@pytest.mark.parametrize("link_tokens", [0, 5])
@pytest.mark.parametrize("kv_type", ["f32", "f16", "q8_0"])
def test_an_answer_does_not_depend_on_what_was_kept(
    open_one: Open, tmp_path: Path, kv_type: str, link_tokens: int
) -> None:
    settings = {
        "kv_type": kv_type, "flash_attention": kv_type != "f32", "link_tokens": link_tokens,
        "passage_folder": tmp_path / "kv",
    }  # fmt: skip
    documents = _documents(6)
    engine = open_one(**settings)
    cold, num_cold = _ask(engine, documents[:4])
    engine.forget_prefixes()
    warm, num_warm = _ask(engine, documents[:4])
    assert warm == cold
    assert not num_cold
    assert num_warm > 4 * 40
    # Another combination, two of its passages seen before.
    mixed = [documents[5], documents[2], documents[4], documents[0]]
    mixed_cold, num_mixed = _ask(engine, mixed)
    assert 2 * 40 < num_mixed < num_warm
    engine.close()
    again = open_one(**settings)
    mixed_warm, num_again = _ask(again, mixed)
    assert mixed_warm == mixed_cold
    assert num_again > 4 * 40
    assert again.passage_stats.num_misses == 0


def test_the_first_passage_alone_is_as_in_a_plain_prefill(open_one: Open) -> None:
    placing, exact = open_one(), open_one(reuse="exact")
    documents = _documents(1)
    assert _ask(placing, documents)[0] == _ask(exact, documents)[0]
    assert _ask(placing, documents)[0] == _ask(exact, documents)[0]


def test_plain_prompts_take_over_no_cells_of_placed_passages(open_one: Open) -> None:
    """The same ids once with passages and once without: two answers, each its own."""
    engine, exact = open_one(num_kept_sequences=8), open_one(reuse="exact")
    prompt = engine.prepare([SYSTEM, QUESTION], _documents(3))
    plain = Prompt(prompt.tokens)
    sampling = SamplingSettings(max_tokens=12)
    for _ in range(2):
        placed = text_of(engine.generate(prompt, sampling))
        assert text_of(engine.generate(plain, sampling)) == text_of(exact.generate(plain, sampling))
        assert text_of(engine.generate(prompt, sampling)) == placed


def test_a_conversation_goes_on_from_its_cells(open_one: Open) -> None:
    engine = open_one()
    documents = _documents(3)
    _, first = _ask(engine, documents)
    prompt = engine.prepare(
        [SYSTEM, QUESTION, Message("assistant", "At nine."), Message("user", "And then?")],
        documents,
    )
    usage = end_of(engine.generate(prompt, SamplingSettings(max_tokens=4)))[1]
    assert usage.num_cached_tokens > prompt.blocks[-1].end > first


@pytest.mark.parametrize("link_tokens", [0, 7])
def test_requests_side_by_side_get_what_they_get_alone(open_one: Open, link_tokens: int) -> None:
    engine = open_one(link_tokens=link_tokens, num_slots=3)
    documents = _documents(8)
    rng = random.Random(3)
    prompts = [engine.prepare([SYSTEM, QUESTION], rng.sample(documents, 3)) for _ in range(10)]
    sampling = SamplingSettings(max_tokens=8)
    together = [engine.generate(prompt, sampling) for prompt in prompts]
    texts = [text_of(generation) for generation in together]
    alone = open_one(link_tokens=link_tokens, passage_ram_bytes=0)
    assert texts == [text_of(alone.generate(prompt, sampling)) for prompt in prompts]
    assert_nothing_leaks(engine)


def test_scores_behind_placed_passages(open_one: Open) -> None:
    engine = open_one()
    prompt = engine.prepare([SYSTEM, QUESTION], _documents(3))
    texts = ["The office opens at nine.", "Nothing.", "sixteen weeks"]
    cold = asyncio.run(engine.score(prompt, texts))
    engine.forget_prefixes()
    warm = asyncio.run(engine.score(prompt, texts))
    assert [score.logprob for score in warm] == pytest.approx(
        [score.logprob for score in cold], abs=1e-4
    )
    assert_nothing_leaks(engine)


def test_cancelling_anywhere_leaks_nothing(open_one: Open) -> None:
    engine = open_one(chunk_tokens=16, num_slots=3)
    rng = random.Random(5)
    documents = _documents(12)
    bias = {int(token): -1000.0 for token in engine._model.vocabulary.eog_ids}
    for _ in range(60):
        prompt = engine.prepare([SYSTEM, QUESTION], rng.sample(documents, 3))
        generation = engine.generate(prompt, SamplingSettings(max_tokens=30, logit_bias=bias))
        time.sleep(rng.random() / 50)
        if rng.random() < 0.8:
            generation.cancel()
    assert_nothing_leaks(engine)
    placer = engine._reuse._placer
    assert placer is not None
    seats = [placer.spare]
    if workbench := placer.seats._bench:
        assert not workbench._promised
        seats.append(workbench._spare)
    for spare in seats:
        assert spare.num_free == (8 if spare is placer.spare else 9)
        assert not any(spare.context.num_positions(sequence) for sequence in spare._free)


def test_another_model_finds_none_of_the_states(
    open_one: Open, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = write_tiny_gguf(tmp_path_factory.mktemp("other") / "o.gguf", num_heads=2, seed=1)
    documents = _documents(3)
    settings = {"passage_folder": tmp_path / "kv"}
    first = open_one(**settings)
    _ask(first, documents)
    first.close()
    for changed in ({"path": other}, {"kv_type": "f16"}, {"flash_attention": True}):
        engine = open_one(**settings, **changed)
        assert not _ask(engine, documents)[1], changed
        engine.close()
    assert _ask(open_one(**settings), documents)[1]


def test_a_damaged_state_is_computed_anew(open_one: Open, tmp_path: Path) -> None:
    documents = _documents(3)
    first = open_one(passage_folder=tmp_path / "kv")
    answer, _ = _ask(first, documents)
    first.close()
    for path in (tmp_path / "kv").glob("*/*.kv"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
    engine = open_one(passage_folder=tmp_path / "kv")
    assert _ask(engine, documents) == (answer, 0)


@pytest.mark.parametrize("has_turner", [True, False])
def test_a_state_that_cannot_be_placed_is_computed_anew(open_one: Open, has_turner: bool) -> None:
    """As if a file of another layout had come through every check."""
    engine = open_one()
    documents = _documents(3)
    answer, _ = _ask(engine, documents)
    placer = engine._reuse._placer
    assert placer is not None
    placer.turner = placer.turner if has_turner else None
    engine.forget_prefixes()
    for key, (owner, state) in placer.store._states.items():
        placer.store._states[key] = (owner, np.zeros_like(state))
    again, num_cached = _ask(engine, documents)
    assert num_cached == 0
    assert again == answer
    assert_nothing_leaks(engine)


def test_a_deleted_document_is_forgotten(open_one: Open, tmp_path: Path) -> None:
    engine = open_one(passage_folder=tmp_path / "kv")
    documents = _documents(3)
    _, num_first = _ask(engine, documents)
    engine.forget_prefixes(["doc1"])
    _, num_cached = _ask(engine, documents)
    assert 2 * 40 < num_cached < 2 * 100
    assert num_first == 0
    engine.close()
    assert len(list((tmp_path / "kv").glob("*/*.kv"))) == 2 + 2


def test_passages_are_computed_ahead_while_nobody_waits(open_one: Open) -> None:
    engine = open_one()
    documents = _documents(6)
    assert engine.precompute([SYSTEM, Message("user", "Anything?")], documents) == 6
    # A request goes first, and what it stopped is done afterwards.
    _ask(engine, documents[:1])
    deadline = time.monotonic() + 20
    while engine.passage_stats.num_states < 6:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    wait_until_idle(engine)
    engine.forget_prefixes()
    _, num_cached = _ask(engine, documents[2:6])
    assert num_cached > 4 * 40
    assert open_one(reuse="exact").precompute([QUESTION], documents) == 0


def test_the_mode_follows_the_setting_and_the_model(
    open_one: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trained = write_tiny_gguf(
        tmp_path_factory.mktemp("trained") / "t.gguf",
        num_heads=2,
        metadata={"mynah.block_attention": True},
    )
    assert open_one(path=trained, reuse="auto")._reuse.is_on
    assert not open_one(path=trained, reuse="exact")._reuse.is_on
    assert not open_one(reuse="auto")._reuse.is_on
    off = open_one(reuse="off")
    assert not off._reuse.is_on
    _ask(off, _documents(1))
    assert _ask(off, _documents(1))[1] == 0


def test_without_room_in_ram_or_on_disk_the_answer_is_the_same(open_one: Open) -> None:
    documents = _documents(4)
    assert _ask(open_one(passage_ram_bytes=0), documents)[0] == _ask(open_one(), documents)[0]


LENGTHS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 80)), min_size=1, max_size=6)


@given(LENGTHS, st.integers(0, 40))
def test_pieces_cover_the_passages_and_the_short_gaps(
    lengths: list[tuple[int, int]], link_tokens: int
) -> None:
    blocks, end = [], 0
    for gap, length in lengths:
        blocks.append(Block(end + gap, end + gap + length, "doc"))
        end += gap + length
    pieces = cut_pieces(blocks, link_tokens)
    assert all(a.end <= b.start for a, b in pairwise(pieces))
    assert [p for p in pieces if p.owner] == [
        p for p in pieces if Block(p.start, p.end, "doc") in blocks
    ]
    assert len([p for p in pieces if p.owner]) == len(blocks)
    assert pieces[0].num_link == 0
    assert all(p.start <= p.placed_from < p.end for p in pieces)
    tokens = np.zeros(end, dtype=np.int32)
    marked = mark_pieces(tokens, pieces)
    covered = {i for piece in pieces for i in range(piece.start, piece.end)}
    assert {int(i) for i in np.flatnonzero(marked)} == covered
