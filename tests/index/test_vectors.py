from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.vectors import VectorIndex
from models.protocols import Vectors

DIMENSION = 16


def make_vectors(seed: int, num: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((num, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def make_index(seed: int, num: int) -> VectorIndex:
    index = VectorIndex("key", DIMENSION)
    index.apply([], list(range(1, num + 1)), make_vectors(seed, num), 3)
    return index


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), num=st.integers(1, 60), max_hits=st.integers(1, 70))
def test_search_equals_brute_force(seed: int, num: int, max_hits: int) -> None:
    index, vectors = make_index(seed, num), make_vectors(seed, num)
    query = make_vectors(seed + 1, 1)[0]
    scores = vectors @ query
    best = np.argsort(-scores, kind="stable")[:max_hits]
    found = index.search(query, max_hits)
    assert [id_ for id_, _ in found] == (best + 1).tolist()
    np.testing.assert_allclose([score for _, score in found], scores[best], rtol=1e-5, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.booleans(), st.sets(st.integers(1, 40), min_size=1, max_size=10)), max_size=8
    )
)
def test_any_run_of_changes_equals_a_fresh_index_of_what_is_left(
    changes: list[tuple[bool, set[int]]],
) -> None:
    vectors = make_vectors(0, 41)
    index, left = VectorIndex("key", DIMENSION), set[int]()
    for adds, ids in changes:
        chosen = sorted(ids)
        if adds:
            index.apply([], chosen, vectors[chosen], 1)
            left |= ids
        else:
            index.apply(chosen, [], vectors[:0], 1)
            left -= ids
    fresh = VectorIndex("key", DIMENSION)
    fresh.apply([], sorted(left), vectors[sorted(left)], 1)
    assert index.ids() == fresh.ids() == sorted(left)
    assert index.search(vectors[0], 50) == fresh.search(vectors[0], 50)


def test_saving_and_loading_changes_no_result(tmp_path: Path) -> None:
    index, query = make_index(5, 50), make_vectors(9, 1)[0]
    index.save(tmp_path / "v.faiss", "file")
    loaded = VectorIndex.load(tmp_path / "v.faiss", "file", "key", DIMENSION)
    assert loaded is not None
    assert loaded.stamp == index.stamp
    assert loaded.search(query, 50) == index.search(query, 50)


def test_an_empty_index_finds_nothing_and_survives_saving(tmp_path: Path) -> None:
    index = VectorIndex("key", DIMENSION)
    assert index.search(make_vectors(0, 1)[0], 5) == []
    index.save(tmp_path / "v.faiss", "file")
    loaded = VectorIndex.load(tmp_path / "v.faiss", "file", "key", DIMENSION)
    assert loaded is not None
    assert loaded.num_vectors == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:40],
        lambda content: content[:-1],
        lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        lambda content: b"something else\n" + content,
        lambda content: content.replace(b'"generation": 3', b'"generation": "x"'),
        lambda content: content.replace(b'"layout"', b'"lay-by"'),
    ],
)
def test_a_damaged_file_is_not_loaded(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "v.faiss"
    make_index(1, 20).save(path, "file")
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    assert VectorIndex.load(path, "file", "key", DIMENSION) is None


def test_a_file_of_another_key_or_dimension_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "v.faiss"
    make_index(1, 20).save(path, "file")
    assert VectorIndex.load(path, "other", "key", DIMENSION) is None
    assert VectorIndex.load(path, "file", "key", DIMENSION * 2) is None
    assert VectorIndex.load(tmp_path / "missing", "file", "key", DIMENSION) is None


def test_a_full_disk_leaves_the_former_file_and_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "v.faiss"
    make_index(1, 5).save(path, "file")
    before = path.read_bytes()
    script = f"""
import errno, resource, signal
from pathlib import Path
from tests.index.test_vectors import make_index
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
index = make_index(2, 500)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    index.save(Path({str(path)!r}), 'file')
except OSError as error:
    print("refused", error.errno == errno.EFBIG)
"""
    assert resource.RLIMIT_FSIZE >= 0
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused True\n"
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["v.faiss"]
