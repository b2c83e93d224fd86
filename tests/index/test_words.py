"""Words that are mistyped, inflected, accented or of a script without spaces."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.collection import Library
from index.common import CommonWords
from index.fts import search_words
from index.matching import choose_limit, count_rows, rank_rows
from index.scripts import query_words, separate
from index.vocabulary import edit_distance, similar_words
from tests.fakes import HashingEmbedder
from tests.index.drafts import put_lines

TEXTS = {
    "post": "You receive the parcel at the reception desk.",
    "leave": "Employees apply for parental leave by word of mouth.",
    "german": "Die Kündigungsfrist beträgt drei Monate, der Urlaub 30 Tage auf der Straße.",
    "french": "Les congés payés sont calculés sur l'année précédente.",
    "russian": "Сотрудники получают отпуск двадцать восемь дней.",
    "chinese": "员工每年享有十五天的带薪休假。",
    "japanese": "従業員は年に20日の有給休暇を取得できます。",
    "korean": "직원은 매년 유급휴가를 받습니다.",
    "thai": "พนักงานมีวันหยุดพักผ่อนประจำปี",
    "hindi": "कर्मचारियों को हर साल छुट्टी मिलती है।",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    embedder = HashingEmbedder()
    with Library(tmp_path_factory.mktemp("library"), embedder) as library:
        for name, text in TEXTS.items():
            put_lines(library, embedder, name, text)
        yield library


def find(library: Library, query: str) -> list[str]:
    """Names of the documents whose words answer the query, best first."""
    with library.store.reading() as connection:
        found = [id_ for id_, _ in search_words(connection, query, None, 10)]
    names = {p.id: d.path for d in library.documents() for p in library.passages(d.id)}
    return [names[id_] for id_ in found]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("recieve", "post"),
        ("recption", "post"),
        ("parcle", "post"),
        ("nparcel", "post"),
        ("Employes", "leave"),
        ("wrod", "leave"),
        ("leeve", "leave"),
        ("paretnal", "leave"),
        ("Kundigungsfrist", "german"),
        ("Kündigungsfristen", "german"),
        ("Kündigung", "german"),
        ("Urlaubsanspruch", "german"),
        ("strasse", "german"),
        ("conges payes", "french"),
        ("calculer", "french"),
        ("annés", "french"),
        ("отпуска", "russian"),
        ("сотрудникам", "russian"),
        ("ОТПУСК", "russian"),
        ("сотрудинки", "russian"),
        ("休假", "chinese"),
        ("带薪休假有多少天", "chinese"),
        ("薪", "chinese"),
        ("有給休暇", "japanese"),
        ("유급휴가", "korean"),
        ("วันหยุด", "thai"),
        ("छुट्टी", "hindi"),
    ],
)
def test_the_passage_is_found(library: Library, query: str, name: str) -> None:
    assert find(library, query)[:1] == [name]


@pytest.mark.parametrize("query", ["zzzzzz", "rec", "leive and", "2024", "20244", "休学", "ตลาด"])
def test_what_resembles_nothing_finds_nothing(library: Library, query: str) -> None:
    assert find(library, query) in ([], ["leave"] if query.startswith("leive") else [])


def test_a_word_that_occurs_is_taken_as_it_is(library: Library) -> None:
    with library.store.reading() as connection:
        counts = count_rows(connection, "passage_words", ["receive", "recieve"], 10)
    assert counts == {"receive": 1, "recieve": 0}
    assert find(library, "reception") == ["post"]


def test_words_of_deleted_documents_are_suggested_no_more(tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    with Library(tmp_path, embedder) as library:
        put_lines(library, embedder, "a.txt", "quagmire and meadow", "quagmire again")
        put_lines(library, embedder, "b.txt", "a second meadow")

        def suggest(word: str) -> list[str]:
            with library.store.reading() as connection:
                return similar_words(connection, word)

        assert (suggest("quagmier"), suggest("meadwo")) == (["quagmire"], ["meadow"])
        put_lines(library, embedder, "a.txt", "replaced")
        assert (suggest("quagmier"), suggest("meadwo")) == ([], ["meadow"])
        assert suggest("replacd") == ["replaced"]
        library.delete("docs", ["a.txt", "b.txt"])
        assert (suggest("replacd"), suggest("meadwo")) == ([], [])
        with library.store.reading() as connection:
            assert connection.execute("SELECT count(*) FROM words").fetchone() == (0,)


def test_a_word_that_was_too_common_is_counted_again_when_another_process_has_changed_that(
    tmp_path: Path,
) -> None:
    embedder = HashingEmbedder()
    with Library(tmp_path, embedder) as library, Library(tmp_path, embedder) as other:
        put_lines(library, embedder, "a.txt", "meadow one", "meadow two", "hill three")
        common = CommonWords()

        def count() -> dict[str, int]:
            with library.store.reading() as connection:
                words = ["meadow", "hill", "valley"]
                counts = common.count(connection, words, 2)
                assert counts == count_rows(connection, "passage_words", words, 2)
                return counts

        assert count() == count() == {"meadow": 2, "hill": 1, "valley": 0}
        put_lines(other, embedder, "b.txt", "hill valley")
        assert count() == {"meadow": 2, "hill": 2, "valley": 1}
        other.delete("docs", ["a.txt"])
        assert count() == {"meadow": 0, "hill": 1, "valley": 1}
        other.delete_collection("docs")
        assert count() == {"meadow": 0, "hill": 0, "valley": 0}


@given(st.text("aBcé'’-_ .,1дЖñß员休ก", max_size=40))
def test_every_word_of_a_text_is_a_word_of_the_query_that_quotes_it(text: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE VIRTUAL TABLE t USING fts5(text, content='', tokenize=\"porter unicode61"
        " remove_diacritics 2 categories 'L* N* Co Mn Mc'\")"
    )
    connection.execute("INSERT INTO t(rowid, text) VALUES(1, ?)", (separate(text),))
    words = query_words(text)
    counts = count_rows(connection, "t", words, 10)
    connection.close()
    letters = [word for word in words if any(c.isalpha() and c.isascii() for c in word)]
    assert all(counts[word] for word in letters)


@settings(deadline=None)
@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_an_edit_distance_is_symmetric_and_bounded_by_its_limit(first: str, second: str) -> None:
    whole = edit_distance(first, second, 10)
    assert whole == edit_distance(second, first, 10)
    assert (whole == 0) == (first == second)
    assert abs(len(first) - len(second)) <= whole <= max(len(first), len(second))
    for limit in range(3):
        assert edit_distance(first, second, limit) == min(whole, limit + 1)
    assert edit_distance(first + "ab", first + "ba", 1) == 1


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8), max_size=30),
    words=st.sets(st.sampled_from("abcdef"), min_size=1),
    budget=st.integers(0, 40),
)
def test_a_budget_leaves_out_rows_but_changes_no_score(
    rows: list[list[str]], words: set[str], budget: int
) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(text)")
    connection.executemany("INSERT INTO t VALUES(?)", [(" ".join(row),) for row in rows])
    counts = count_rows(connection, "t", sorted(words), 100)
    ranked = {
        size: rank_rows(connection, "t", counts, limit=100, budget=size, max_rows=100)
        for size in (budget, 1000)
    }
    odd = rank_rows(
        connection,
        "t",
        counts,
        limit=100,
        budget=1000,
        max_rows=100,
        is_selected=lambda row: row % 2 == 1,
    )
    connection.close()
    every = dict(ranked[1000])
    assert set(every) == {at for at, row in enumerate(rows, start=1) if words & set(row)}
    assert odd == [hit for hit in ranked[1000] if hit[0] % 2]
    rarest = [
        word for word in counts if counts[word] == min(filter(None, counts.values()), default=0)
    ]
    found = dict(ranked[budget])
    assert all(abs(found[row] - every[row]) < 1e-5 for row in found)
    assert not every or any(
        {at for at, row in enumerate(rows, start=1) if word in row} <= set(found) for word in rarest
    )


def test_a_phrase_of_half_the_rows_is_too_common() -> None:
    assert [choose_limit(num) for num in (0, 1, 100, 100_000, 1_000_000)] == [
        1, 1, 50, 5_000, 50_000,
    ]  # fmt: skip
