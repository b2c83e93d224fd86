from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.collection import Library
from index.dense import search_vectors
from index.errors import FilterInvalid
from index.filters import Combination, Comparison, parse_filter
from index.fts import search_words
from index.retriever import HybridRetriever
from tests.fakes import HashingEmbedder
from tests.index.drafts import make_draft, put_lines

COMPARATORS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")
ORDERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
VALUES = st.one_of(
    st.booleans(), st.integers(-2, 2), st.sampled_from([0.5, 1.0, -0.0]), st.sampled_from("aB1é")
)
ORDERED = VALUES.filter(lambda value: not isinstance(value, bool))
KEYS = st.sampled_from(["a", "b", "an odd key"])
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=3)


def comparisons() -> st.SearchStrategy[dict[str, object]]:
    equal = st.builds(
        lambda kind, key, value: {"type": kind, "key": key, "value": value},
        st.sampled_from(["eq", "ne"]),
        KEYS,
        VALUES,
    )
    ordered = st.builds(
        lambda kind, key, value: {"type": kind, "key": key, "value": value},
        st.sampled_from(sorted(ORDERS)),
        KEYS,
        ORDERED,
    )
    member = st.builds(
        lambda kind, key, value: {"type": kind, "key": key, "value": value},
        st.sampled_from(["in", "nin"]),
        KEYS,
        st.lists(VALUES, max_size=3),
    )
    return st.one_of(equal, ordered, member)


FILTERS = st.recursive(
    comparisons(),
    lambda inner: st.builds(
        lambda kind, filters: {"type": kind, "filters": filters},
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


def satisfies(attributes: Mapping[str, object], node: Mapping[str, object]) -> bool:
    """What a filter means, written out anew."""
    kind = node["type"]
    if kind in ("and", "or"):
        inner = node["filters"]
        assert isinstance(inner, list)
        return (all if kind == "and" else any)(satisfies(attributes, item) for item in inner)
    if node["key"] not in attributes:
        return False
    have, want = attributes[str(node["key"])], node["value"]
    if kind in ORDERS:
        return isinstance(have, str) == isinstance(want, str) and (
            not isinstance(have, bool) and bool(ORDERS[str(kind)](have, want))
        )
    wanted = want if isinstance(want, list) else [want]
    is_in = any(
        isinstance(have, bool) == isinstance(value, bool) and have == value for value in wanted
    )
    return is_in == (kind in ("eq", "in"))


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(ATTRIBUTES, min_size=1, max_size=12), data=FILTERS, depth=st.integers(1, 9)
)
def test_a_filtered_search_ranks_what_the_filter_leaves(
    tmp_path_factory: pytest.TempPathFactory,
    documents: list[dict[str, object]],
    data: dict[str, object],
    depth: int,
) -> None:
    embedder = HashingEmbedder()
    words = ["leave", "parent", "weeks", "laptop", "year"]
    with Library(tmp_path_factory.mktemp("library"), embedder) as library:
        library.create_collection("docs")
        put_lines(library, embedder, "other.txt", "parent leave weeks", collection="other")
        for number, attributes in enumerate(documents):
            lines = [f"{words[number % 5]} of {words[number % 3]}", f"weeks {words[number % 4]}"]
            draft = make_draft(f"{number}.txt", *lines, attributes=attributes)
            library.put("docs", draft, embedder.encode(lines))
        kept = {
            passage.id
            for document in library.documents("docs")
            if satisfies(document.attributes, data)
            for passage in library.passages(document.id)
        }
        chosen = library.select(["docs"], parse_filter(json.loads(json.dumps(data))))
        selection, whole = chosen.united, library.select(["docs"], None).united
        assert selection is not None
        assert selection.ids.tolist() == sorted(kept)
        query = embedder.encode(["parent weeks"])[0]
        index = library.vectors("docs")
        every = [hit for hit in index.search(query, 1000) if hit[0] in kept]
        found = search_vectors(library.store, index, query, depth, selection)
        # Equal texts have equal scores, and come in any order.
        assert {id_ for id_, _ in found} <= kept
        np.testing.assert_allclose([s for _, s in found], [s for _, s in every[:depth]], atol=1e-6)
        with library.store.reading() as connection:
            every = search_words(connection, "parent weeks", whole, 1000)
            found = search_words(connection, "parent weeks", selection, depth)
        assert found == [hit for hit in every if hit[0] in kept][:depth]
        hits = HybridRetriever(library, embedder).search(
            "parent weeks", collections=["docs"], filters=parse_filter(data), max_hits=1000
        )
        assert {hit.passage.id for hit in hits} <= kept
        # Copies of a text are collapsed into one hit.
        texts = {p.id: p.text for d in library.documents("docs") for p in library.passages(d.id)}
        assert {hit.passage.text for hit in hits} == {texts[id_] for id_ in kept}


def test_a_missing_key_satisfies_nothing(tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    with Library(tmp_path, embedder) as library:
        library.create_collection("docs")
        library.put("docs", make_draft("a", "leave", attributes={}), embedder.encode(["leave"]))
        for kind in COMPARATORS:
            value: object = ["x"] if kind in ("in", "nin") else "x"
            filters = parse_filter({"type": kind, "key": "team", "value": value})
            assert HybridRetriever(library, embedder).search("leave", filters=filters) == []


def test_other_attributes_are_searched_at_once(tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    with Library(tmp_path, embedder) as library:
        document = put_lines(library, embedder, "a.txt", "leave for a parent")
        retriever = HybridRetriever(library, embedder)
        hr, one = (
            parse_filter({"type": "eq", "key": key, "value": value})
            for key, value in (("team", "hr"), ("open", 1))
        )
        assert retriever.search("leave", filters=hr) == []
        changed = library.set_attributes(document.id, {"team": "hr", "open": True})
        assert changed.attributes == {"team": "hr", "open": True}
        assert [h.document.attributes for h in retriever.search("leave", filters=hr)] == [
            {"team": "hr", "open": True}
        ]
        assert retriever.search("leave", filters=one) == []
        is_open = parse_filter({"type": "eq", "key": "open", "value": True})
        assert len(retriever.search("leave", filters=is_open)) == 1
        with pytest.raises(FilterInvalid, match=r"attributes\.team must be a string"):
            library.set_attributes(document.id, {"team": None})  # type: ignore[dict-item]
        assert library.document(document.id) == changed


def test_a_filter_is_read_with_its_nesting() -> None:
    data = {
        "type": "or",
        "filters": [
            {"type": "in", "key": "team", "value": ["hr", 1, True]},
            {"type": "and", "filters": [{"type": "lt", "key": "year", "value": 2.5}]},
        ],
    }
    assert parse_filter(data) == Combination(
        "or",
        (
            Comparison("in", "team", ("hr", 1, True)),
            Combination("and", (Comparison("lt", "year", (2.5,)),)),
        ),
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "filters must be an object with a 'type'"),
        ([], "filters must be an object"),
        ({"key": "a", "value": 1}, "filters.type is None; use one of and, or, eq, ne"),
        ({"type": "like", "key": "a", "value": 1}, "filters.type is 'like'"),
        ({"type": ["eq"], "key": "a", "value": 1}, r"filters.type is \['eq'\]"),
        ({"type": "eq", "key": "a"}, "filters lacks 'value'"),
        ({"type": "eq", "value": 1}, "filters lacks 'key'"),
        ({"type": "eq", "key": "", "value": 1}, "filters.key must be the name"),
        ({"type": "eq", "key": "a", "value": None}, "filters.value must be a string, number"),
        ({"type": "eq", "key": "a", "value": ["x"]}, "filters.value must be a string, number"),
        ({"type": "eq", "key": "a", "value": float("nan")}, "not a finite number"),
        ({"type": "eq", "key": "a", "value": 1 << 64}, "over 64 bits"),
        ({"type": "eq", "key": "a", "value": "\ud800"}, "half a character"),
        ({"type": "gt", "key": "a", "value": True}, "boolean, which gt cannot order"),
        ({"type": "in", "key": "a", "value": "x"}, "filters.value must be a list"),
        ({"type": "nin", "key": "a", "value": [{}]}, r"filters.value\[0\] must be a string"),
        ({"type": "eq", "key": "a", "value": 1, "x": 2}, "unknown field 'x'"),
        ({"type": "and", "filters": []}, "filters.filters must list at least one"),
        ({"type": "and"}, "filters lacks 'filters'"),
        (
            {"type": "or", "filters": [{"type": "eq", "key": "a", "value": 1}, {"type": "no"}]},
            r"filters.filters\[1\].type is 'no'",
        ),
    ],
)
def test_what_is_wrong_with_a_filter_is_said_with_its_place(data: object, message: str) -> None:
    with pytest.raises(FilterInvalid, match=message):
        parse_filter(data)


def test_a_filter_has_bounds() -> None:
    one: dict[str, object] = {"type": "eq", "key": "a", "value": 1}
    with pytest.raises(FilterInvalid, match="over 100 comparisons"):
        parse_filter({"type": "or", "filters": [one] * 101})
    deep = one
    for _ in range(20):
        deep = {"type": "and", "filters": [deep]}
    with pytest.raises(FilterInvalid, match="nested over 16 deep"):
        parse_filter(deep)
    with pytest.raises(FilterInvalid, match="at most 1000 values"):
        parse_filter({"type": "in", "key": "a", "value": [1] * 1001})


def test_the_largest_filter_can_be_run(tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    data = {
        "type": "or",
        "filters": [{"type": "in", "key": "team", "value": list(range(1000))}] * 100,
    }
    with Library(tmp_path, embedder) as library:
        put_lines(library, embedder, "a.txt", "leave")
        assert HybridRetriever(library, embedder).search("leave", filters=parse_filter(data)) == []
