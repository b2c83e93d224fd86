from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.collection import Library
from index.errors import (
    CollectionNotFound,
    DocumentNotFound,
    EmbedderMismatch,
    NameInvalid,
    StorageFull,
)
from index.replay import replay
from index.retriever import HybridRetriever
from index.vectors import VectorIndex
from tests.fakes import HashingEmbedder
from tests.index.drafts import make_draft, put_lines

ROOT = Path(__file__).parents[2]


def bytes_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_document_comes_back_as_it_was_put(library: Library, embedder: HashingEmbedder) -> None:
    library.create_collection("docs")
    draft = make_draft("a/b.txt", "First line 日本", "Second line", title="Title")
    document = library.put("docs", draft, embedder.encode(["x", "y"]))
    assert library.document(document.id) == document
    assert library.document("a/b.txt", "docs") == document
    assert library.documents("docs") == [document]
    assert (document.path, document.title, document.filename) == ("a/b.txt", "Title", "b.txt")
    assert (document.collection, document.num_passages) == ("docs", 2)
    assert document.attributes == {"year": 2024.0, "open": True}
    assert library.text(document.id) == draft.text
    passages = library.passages(document.id)
    assert [draft.text[p.start : p.end] for p in passages] == [p.text for p in passages]
    assert [p.headings for p in passages] == [("Part",), ("Part",)]


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "a/b", "../a", "ä", "a" * 65, "a\n"])
def test_names_that_break_the_rule_are_refused(library: Library, name: str) -> None:
    with pytest.raises(NameInvalid, match="cannot name a collection"):
        library.create_collection(name)
    assert library.collections() == []


def test_what_is_missing_is_named(library: Library, embedder: HashingEmbedder) -> None:
    put_lines(library, embedder, "a.txt", "line")
    with pytest.raises(CollectionNotFound, match="'hr'; there are: docs"):
        library.collection("hr")
    with pytest.raises(DocumentNotFound, match=r"'b\.txt' in the collection 'docs'"):
        library.delete("docs", ["b.txt"])
    with pytest.raises(DocumentNotFound):
        library.text("doc_0")


def test_a_document_put_again_replaces_the_former(
    library: Library, embedder: HashingEmbedder
) -> None:
    first = put_lines(library, embedder, "a.txt", "old words here", "more of them")
    second = put_lines(library, embedder, "a.txt", "entirely new")
    assert [d.id for d in library.documents()] == [second.id] != [first.id]
    assert HybridRetriever(library, embedder).search("old words")[0].document.id == second.id
    assert library.vectors("docs").num_vectors == 1


def test_a_failed_replacement_leaves_the_former(
    library: Library, embedder: HashingEmbedder
) -> None:
    put_lines(library, embedder, "a.txt", "old words here")
    with pytest.raises(UnicodeEncodeError):
        put_lines(library, embedder, "a.txt", "new", "broken \ud800")
    assert [library.text(d.id) for d in library.documents()] == ["old words here"]
    hits = HybridRetriever(library, embedder).search("old words")
    assert [hit.passage.text for hit in hits] == ["old words here"]


def test_ids_are_never_used_again(library: Library, embedder: HashingEmbedder) -> None:
    seen: set[int] = set()
    for _ in range(3):
        document = put_lines(library, embedder, "a.txt", "one", "two")
        ids = {passage.id for passage in library.passages(document.id)}
        assert not ids & seen
        seen |= ids
        library.delete("docs", [document.id])


def test_deleting_leaves_nothing_anywhere(
    tmp_path: Path, library: Library, embedder: HashingEmbedder
) -> None:
    put_lines(library, embedder, "keep.txt", "Ordinary sentence stays.")
    gone = put_lines(library, embedder, "secret.txt", "Xylophone zanzibar quagmire.")
    vector = embedder.encode(["Xylophone zanzibar quagmire."]).tobytes()
    library.settle("docs")
    assert b"anzibar" in bytes_on_disk(tmp_path)
    assert vector in bytes_on_disk(tmp_path)
    assert library.delete("docs", ["secret.txt"]) == [gone]

    retriever = HybridRetriever(library, embedder)
    for query in ("Xylophone zanzibar quagmire", "secret.txt"):
        assert {hit.document.path for hit in retriever.search(query)} == {"keep.txt"}
    assert library.vectors("docs").num_vectors == 1
    left = bytes_on_disk(tmp_path)
    for trace in (b"anzibar", b"quagmire", b"secret", vector):
        assert trace not in left, trace
    with Library(tmp_path, embedder) as reopened:
        assert reopened.vectors("docs").num_vectors == 1
        hits = HybridRetriever(reopened, embedder).search("zanzibar")
        assert {hit.document.path for hit in hits} == {"keep.txt"}


def test_deleting_several_documents_is_all_or_none(
    library: Library, embedder: HashingEmbedder
) -> None:
    put_lines(library, embedder, "a.txt", "one")
    with pytest.raises(DocumentNotFound):
        library.delete("docs", ["a.txt", "missing.txt"])
    assert len(library.documents("docs")) == 1


def test_a_deleted_collection_is_gone_with_its_file(
    tmp_path: Path, library: Library, embedder: HashingEmbedder
) -> None:
    put_lines(library, embedder, "a.txt", "zanzibar", collection="one")
    put_lines(library, embedder, "a.txt", "other", collection="two")
    library.settle("one")
    assert library.delete_collection("one").num_documents == 1
    assert [info.name for info in library.collections()] == ["two"]
    assert b"zanzibar" not in bytes_on_disk(tmp_path)
    put_lines(library, embedder, "b.txt", "again", collection="one")
    hits = HybridRetriever(library, embedder).search("zanzibar", collections=["one"])
    assert [hit.document.path for hit in hits] == ["b.txt"]


def test_another_embedder_is_refused_with_the_command_that_helps(
    tmp_path: Path, library: Library, embedder: HashingEmbedder
) -> None:
    put_lines(library, embedder, "a.txt", "one")
    for other in (HashingEmbedder(32), HashingEmbedder(model="new"), HashingEmbedder(64, 128)):
        with Library(tmp_path, other) as opened:
            message = "hashing .64 dimensions.*mynah ingest --reembed --collection docs"
            with pytest.raises(EmbedderMismatch, match=message):
                put_lines(opened, other, "b.txt", "two")
            with pytest.raises(EmbedderMismatch, match=message):
                HybridRetriever(opened, other).search("one")
            assert [d.path for d in opened.documents("docs")] == ["a.txt"]


def test_an_open_library_sees_what_another_process_does(
    tmp_path: Path, library: Library, embedder: HashingEmbedder
) -> None:
    put_lines(library, embedder, "a.txt", "alpha words")
    library.settle("docs")
    retriever = HybridRetriever(library, embedder)
    assert len(retriever.search("alpha")) == 1
    script = f"""
from pathlib import Path
from index.collection import Library
from tests.fakes import HashingEmbedder
from tests.index.drafts import put_lines
embedder = HashingEmbedder()
with Library(Path({str(tmp_path)!r}), embedder) as library:
    put_lines(library, embedder, "b.txt", "beta words")
    library.delete("docs", ["a.txt"])
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
    assert [hit.document.path for hit in retriever.search("alpha beta")] == ["b.txt"]
    assert library.vectors("docs").num_vectors == 1


@settings(max_examples=12, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), min_size=1, max_size=12
    )
)
def test_replaying_equals_rebuilding(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]]
) -> None:
    embedder = HashingEmbedder()
    folder = tmp_path_factory.mktemp("library")
    with Library(folder, embedder) as library, Library(folder, embedder) as watcher:
        library.create_collection("docs")
        for name, num_lines, settles in steps:
            if num_lines:
                lines = [f"{name} line {number} of {num_lines}" for number in range(num_lines)]
                put_lines(library, embedder, name, *lines)
            elif library.find("docs", name) is not None:
                library.delete("docs", [name])
            if settles:
                library.settle("docs")
                watcher.vectors("docs")
        with library.store.reading() as connection:
            row = library.vectors("docs").stamp
            fresh = replay(connection, "docs", VectorIndex(row.key, 64))
        with Library(folder, embedder) as reopened:
            query = embedder.encode(["a line"])[0]
            expected = fresh.search(query, 100)
            for opened in (library, watcher, reopened):
                index = opened.vectors("docs")
                assert index.ids() == fresh.ids()
                assert index.search(query, 100) == expected


@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_a_damaged_vector_file_is_rebuilt(
    tmp_path: Path, library: Library, embedder: HashingEmbedder, content: bytes
) -> None:
    put_lines(library, embedder, "a.txt", "alpha", "beta")
    library.settle("docs")
    (tmp_path / "vectors" / "docs.faiss").write_bytes(content)
    with Library(tmp_path, embedder) as reopened:
        assert reopened.vectors("docs").num_vectors == 2


def test_a_vector_file_that_outlived_its_database_is_rebuilt(
    tmp_path: Path, library: Library, embedder: HashingEmbedder
) -> None:
    put_lines(library, embedder, "a.txt", "alpha")
    library.store.empty_journal()
    copy = (tmp_path / "mynah.db").read_bytes()
    put_lines(library, embedder, "b.txt", "beta", "gamma")
    library.settle("docs")
    library.close()
    for leftover in tmp_path.glob("mynah.db-*"):
        leftover.unlink()
    (tmp_path / "mynah.db").write_bytes(copy)
    with Library(tmp_path, embedder) as restored:
        put_lines(restored, embedder, "c.txt", "delta")
        index = restored.vectors("docs")
        ids = [p.id for d in restored.documents("docs") for p in restored.passages(d.id)]
        assert index.ids() == sorted(ids)


def test_a_full_disk_stops_the_document_and_keeps_the_others(
    library: Library, embedder: HashingEmbedder
) -> None:
    put_lines(library, embedder, "a.txt", "alpha words")
    with library.store.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(StorageFull):
        put_lines(library, embedder, "b.txt", *[f"beta words {n}" * 50 for n in range(200)])
    assert [d.path for d in library.documents("docs")] == ["a.txt"]
    hits = HybridRetriever(library, embedder).search("alpha beta")
    assert [hit.document.path for hit in hits] == ["a.txt"]
