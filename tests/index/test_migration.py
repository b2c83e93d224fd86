from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from index.collection import Library
from index.filters import parse_filter
from index.retriever import HybridRetriever
from index.schema import SCHEMA_VERSION
from index.types import RankingOptions
from tests.fakes import HashingEmbedder

# The tables of version 1, as the first release created them.
VERSION_1 = """
CREATE TABLE collections(
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, embedder_model TEXT NOT NULL,
  embedder_dimension INTEGER NOT NULL, embedder_window INTEGER NOT NULL,
  vectors_key TEXT NOT NULL, file_key TEXT NOT NULL DEFAULT '',
  generation INTEGER NOT NULL DEFAULT 0, log_start INTEGER NOT NULL DEFAULT 0,
  created_s INTEGER NOT NULL) STRICT;
CREATE TABLE documents(
  id TEXT PRIMARY KEY,
  collection_id INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  path TEXT NOT NULL, media_type TEXT NOT NULL, content_hash TEXT NOT NULL,
  size_bytes INTEGER NOT NULL, num_passages INTEGER NOT NULL, created_s INTEGER NOT NULL,
  title TEXT, page_starts TEXT NOT NULL, attributes TEXT NOT NULL,
  UNIQUE(collection_id, path)) STRICT;
CREATE TABLE document_texts(
  document_id TEXT PRIMARY KEY REFERENCES documents(id) ON DELETE CASCADE,
  text TEXT NOT NULL) STRICT;
CREATE TABLE passages(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  document_id TEXT NOT NULL REFERENCES documents(id) ON DELETE CASCADE,
  collection_id INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  generation INTEGER NOT NULL, ordinal INTEGER NOT NULL, start_offset INTEGER NOT NULL,
  end_offset INTEGER NOT NULL, page INTEGER, num_tokens INTEGER NOT NULL, headings TEXT NOT NULL,
  name TEXT NOT NULL, text TEXT NOT NULL, embedding BLOB NOT NULL) STRICT;
CREATE INDEX passages_by_document ON passages(document_id, ordinal);
CREATE INDEX passages_by_generation ON passages(collection_id, generation);
CREATE TABLE deletions(
  collection_id INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  generation INTEGER NOT NULL, passage_id INTEGER NOT NULL) STRICT;
CREATE INDEX deletions_by_generation ON deletions(collection_id, generation);
CREATE VIEW passage_search AS
  SELECT id, document_id, 'c' || collection_id AS scope, text, headings, name FROM passages;
CREATE VIRTUAL TABLE passage_words USING fts5(
  scope, text, headings, name, content='passage_search', content_rowid='id',
  tokenize="porter unicode61 remove_diacritics 2");
PRAGMA user_version = 1;
"""
LINES = (
    "Each parent receives 16 weeks.",
    "员工每年享有十五天的带薪休假。",
    "Laptops last 4 years.",
)


def write_version_1(folder: Path) -> None:
    vectors = HashingEmbedder().encode(LINES)
    connection = sqlite3.connect(folder / "mynah.db")
    connection.executescript(VERSION_1)
    connection.execute(
        "INSERT INTO collections VALUES(1, 'docs', 'hashing', 64, 256, 'key', '', 3, 0, 7)"
    )
    attributes = json.dumps({"team": "hr", "year": 2024, "open": True})
    for number, name in enumerate(["a.txt", "b.txt"]):
        connection.execute(
            "INSERT INTO documents VALUES(?, 1, ?, 'text/plain', 'h', 9, ?, 7, NULL, '[]', ?)",
            (f"doc_{number}", name, 2 - number, attributes if number == 0 else "{}"),
        )
    for number, (line, vector) in enumerate(zip(LINES, vectors, strict=True)):
        connection.execute(
            "INSERT INTO passages VALUES(?, ?, 1, ?, ?, 0, 9, NULL, 5, 'Part', ?, ?, ?)",
            (
                number + 11,
                f"doc_{number // 2}",
                number + 1,
                number % 2,
                "ab"[number // 2] + ".txt",
                line,
                vector.tobytes(),
            ),
        )
    connection.execute(
        "INSERT INTO passage_words(rowid, scope, text, headings, name)"
        " SELECT id, scope, text, headings, name FROM passage_search"
    )
    connection.commit()
    connection.close()


def test_a_database_of_version_1_is_brought_up_with_all_it_holds(tmp_path: Path) -> None:
    write_version_1(tmp_path)
    embedder = HashingEmbedder()
    with Library(tmp_path, embedder) as library:
        retriever = HybridRetriever(library, embedder)
        by_words = RankingOptions(embedding_weight=0.0)
        for query, line in (("recieve", LINES[0]), ("休假", LINES[1]), ("laptop", LINES[2])):
            assert retriever.search(query, ranking=by_words)[0].passage.text == line
        for data, num_hits in (
            ({"type": "eq", "key": "team", "value": "hr"}, 2),
            ({"type": "gte", "key": "year", "value": 2025}, 0),
            ({"type": "eq", "key": "open", "value": True}, 2),
        ):
            hits = retriever.search("weeks 休假 laptops", filters=parse_filter(data))
            assert len(hits) == num_hits
        info = library.collection("docs")
        assert (info.num_passages, info.layout, info.recall) == (3, "flat", None)
        library.delete("docs", ["a.txt"])
        assert [h.passage.text for h in retriever.search("parent laptops 休假")] == [LINES[2]]
        assert b"parent" not in (tmp_path / "mynah.db").read_bytes()
    with Library(tmp_path, embedder) as reopened:
        assert len(HybridRetriever(reopened, embedder).search("laptops")) == 1


def test_a_migration_that_is_stopped_leaves_version_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_version_1(tmp_path)

    def stop(_connection: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("index.store.fill_from_version_1", stop)
        with pytest.raises(KeyboardInterrupt):
            Library(tmp_path, HashingEmbedder())
    connection = sqlite3.connect(tmp_path / "mynah.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM passage_search").fetchone() == (3,)
    connection.close()
    with Library(tmp_path, HashingEmbedder()) as library:
        with library.store.reading() as opened:
            assert opened.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert library.collection("docs").num_passages == 3
