"""Inverted lists: chosen by size, measured, filled and emptied, never short of what was asked."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.collection import Library
from index.dense import search_vectors
from index.errors import StorageFull
from index.filters import parse_filter
from index.layouts import MAX_FLAT, Layout, Sample, build_ivf, choose_num_lists
from index.retriever import HybridRetriever
from index.vectors import VectorIndex, VectorStamp
from models.protocols import EmbedderIdentity, Vectors
from tests.index.drafts import make_draft

DIMENSION = 32
NUM = 3000
MAX_SMALL = 100


def make_vectors(num: int, seed: int) -> Vectors:
    """Unit vectors around forty centres."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((40, DIMENSION))
    vectors = centres[generator.integers(0, 40, num)]
    vectors = vectors + 0.6 * generator.standard_normal((num, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors, dtype=np.float32)


def build(vectors: Vectors) -> VectorIndex:
    ids = list(range(1, len(vectors) + 1))
    batches = [(ids[at : at + 500], vectors[at : at + 500]) for at in range(0, len(ids), 500)]
    stamp = VectorStamp("key", 1, DIMENSION)
    return VectorIndex.build(stamp, Sample(vectors, len(vectors)), batches)


class SeededEmbedder:
    """A vector for a number, which is all its texts hold."""

    identity = EmbedderIdentity("seeded", DIMENSION, 256)

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.concatenate([make_vectors(1, int(text)) for text in texts])

    def num_tokens(self, texts: Sequence[str]) -> list[int]:
        return [1] * len(texts)


def put_numbers(library: Library, path: str, numbers: range, **attributes: object) -> None:
    library.create_collection("docs")
    lines = [str(number) for number in numbers]
    draft = make_draft(path, *lines, attributes=attributes)
    library.put("docs", draft, SeededEmbedder().encode(lines))


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path, SeededEmbedder(), max_flat=MAX_SMALL) as library:
        put_numbers(library, "a", range(150), team="a")
        put_numbers(library, "b", range(150, 300), team="b")
        library.settle("docs")
        yield library


def test_the_layout_follows_from_the_number_of_vectors() -> None:
    assert not Layout().is_outgrown(MAX_FLAT)
    assert Layout().is_outgrown(MAX_FLAT + 1)
    lists = Layout("ivf-sq8", 512, 16, 100_000, 0.99)
    assert not lists.is_outgrown(400_000)
    assert lists.is_outgrown(400_001)
    assert lists.is_outgrown(MAX_FLAT // 2)
    assert [choose_num_lists(num) for num in (1, 30_000, 100_000, 1_000_000)] == [
        16, 256, 512, 2048,
    ]  # fmt: skip


def test_the_recall_that_is_reported_is_that_of_other_queries_too() -> None:
    vectors, queries = make_vectors(NUM, 1), make_vectors(200, 2)
    index = build(vectors)
    assert index.layout.recall is not None
    assert index.layout.recall >= 0.95
    assert index.layout.num_built == index.num_vectors == NUM
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :10] + 1
    found = [{id_ for id_, _ in index.search(query, 30)} for query in queries]
    recall = np.mean([len(ids & set(truth)) / 10 for ids, truth in zip(found, best, strict=True)])
    assert recall >= index.layout.recall - 0.05


def test_a_layout_that_cannot_be_good_says_so() -> None:
    # Without any structure near vectors lie in far lists.
    noise = np.random.default_rng(3).standard_normal((NUM, 128)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    _, layout = build_ivf(Sample(noise, NUM), [(list(range(NUM)), noise)])
    assert layout.recall is not None
    assert layout.recall < 0.9
    assert layout.num_probes == layout.num_lists // 4


def test_saving_and_loading_changes_no_result(tmp_path: Path) -> None:
    index, query = build(make_vectors(NUM, 1)), make_vectors(1, 2)[0]
    index.save(tmp_path / "v.faiss", "file")
    loaded = VectorIndex.load(tmp_path / "v.faiss", "file", "key", DIMENSION)
    assert loaded is not None
    assert (loaded.stamp, loaded.layout) == (index.stamp, index.layout)
    assert loaded.search(query, 50) == index.search(query, 50)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), num_removed=st.integers(0, 2500), num_added=st.integers(0, 300))
def test_what_is_removed_is_gone_and_what_is_added_is_found(
    seed: int, num_removed: int, num_added: int
) -> None:
    index, more = build(make_vectors(NUM, 1)), make_vectors(300, 4)
    removed = np.random.default_rng(seed).choice(NUM, num_removed, replace=False) + 1
    added = list(range(NUM + 1, NUM + 1 + num_added))
    for _ in range(2):  # a second time changes nothing
        index.apply(removed.tolist(), added, more[:num_added], 2)
    left = (set(range(1, NUM + 1)) - set(removed.tolist())) | set(added)
    assert index.ids() == sorted(left)
    assert {id_ for id_, _ in index.search(more[0], NUM)} <= left
    for id_, vector in zip(added, more[:20], strict=False):
        assert index.search(vector, 1)[0][0] == id_


def test_a_collection_that_grows_is_laid_out_anew_and_says_how_well(
    tmp_path: Path, library: Library
) -> None:
    info = library.collection("docs")
    assert info.layout == "ivf-sq8"
    assert info.recall is not None
    with Library(tmp_path, SeededEmbedder(), max_flat=MAX_SMALL) as reopened:
        index = reopened.vectors("docs")
        assert index.layout == library.vectors("docs").layout
        assert index.num_vectors == 300
    library.delete("docs", ["a"])
    put_numbers(library, "b", range(150, 180))
    library.settle("docs")
    assert library.vectors("docs").is_exact
    assert library.collection("docs").layout == "flat"
    assert library.vectors("docs").num_vectors == 30


def test_an_open_library_takes_over_what_another_laid_out(tmp_path: Path) -> None:
    with (
        Library(tmp_path, SeededEmbedder(), max_flat=MAX_SMALL) as writer,
        Library(tmp_path, SeededEmbedder(), max_flat=MAX_SMALL) as watcher,
    ):
        put_numbers(writer, "a", range(80))
        assert watcher.vectors("docs").is_exact
        put_numbers(writer, "b", range(80, 400))
        writer.settle("docs")
        index = watcher.vectors("docs")
        assert (index.is_exact, index.num_vectors) == (False, 400)


@pytest.mark.parametrize("team", ["a", "b"])
@pytest.mark.parametrize("seed", [7, 8, 9])
def test_a_selection_is_searched_whole(library: Library, team: str, seed: int) -> None:
    filters = parse_filter({"type": "eq", "key": "team", "value": team})
    selection = library.select(["docs"], filters).united
    assert selection is not None
    query = make_vectors(1, seed)[0]
    index = library.vectors("docs")
    (document,) = library.documents("docs", after="a" if team == "b" else "", max_documents=1)
    passages = library.passages(document.id)
    scores = SeededEmbedder().encode([passage.text for passage in passages]) @ query
    for depth in (1, 10, 150):
        found = search_vectors(library.store, index, query, depth, selection)
        assert len(found) == depth
        assert {id_ for id_, _ in found} <= {passage.id for passage in passages}
        best = np.sort(scores)[::-1][:depth]
        np.testing.assert_allclose([score for _, score in found], best, atol=1e-6)


def test_scores_are_the_cosine_similarities_themselves(library: Library) -> None:
    hits = HybridRetriever(library, SeededEmbedder()).search("17", max_hits=1)
    assert hits[0].passage.text == "17"
    assert hits[0].dense_score == pytest.approx(1.0, abs=1e-6)


def test_a_full_disk_leaves_the_former_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with Library(tmp_path, SeededEmbedder(), max_flat=MAX_SMALL) as library:
        put_numbers(library, "a", range(80))
        library.settle("docs")
        put_numbers(library, "b", range(80, 400))
        with monkeypatch.context() as patch:
            patch.setattr("index.vectors.write_index", fail)
            with pytest.raises(StorageFull):
                library.settle("docs")
        assert library.collection("docs").layout == "flat"
    with Library(tmp_path, SeededEmbedder(), max_flat=MAX_SMALL) as reopened:
        assert reopened.vectors("docs").num_vectors == 400
        reopened.settle("docs")
        assert reopened.collection("docs").layout == "ivf-sq8"
