from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from index.collection import Library
from index.errors import EmbedderMismatch, StorageFull
from index.retriever import HybridRetriever
from ingest.errors import (
    FileDamaged,
    FileEmpty,
    FileMissing,
    FileNotText,
    FileTooLarge,
    FormatUnsupported,
    PathTaken,
)
from ingest.pipeline import IngestProgress, IngestSettings, IngestSummary, ingest
from ingest.reembed import reembed
from ingest.split import SplitSettings
from models.protocols import Vectors
from tests.fakes import HashingEmbedder

HANDBOOK = Path(__file__).parents[2] / "examples" / "handbook"


@pytest.fixture
def embedder() -> HashingEmbedder:
    return HashingEmbedder()


@pytest.fixture
def library(tmp_path: Path, embedder: HashingEmbedder) -> Iterator[Library]:
    with Library(tmp_path / "data", embedder) as library:
        yield library


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    (folder / "hr").mkdir(parents=True)
    (folder / "hr" / "leave.md").write_text("# Leave\n\nEach parent receives 16 weeks.")
    (folder / "it.txt").write_text("Laptops are replaced after 4 years.")
    (folder / "zoo.html").write_text("<h1>Zoo</h1><p>Animals are not allowed.</p>")
    return folder


def take(folder: Path, library: Library, embedder: HashingEmbedder) -> IngestSummary:
    return ingest([folder], "docs", library, embedder)


def test_a_folder_is_taken_in_with_relative_paths(
    folder: Path, library: Library, embedder: HashingEmbedder
) -> None:
    summary = take(folder, library, embedder)
    assert summary.added == ["hr/leave.md", "it.txt", "zoo.html"]
    assert (summary.updated, summary.unchanged, summary.failed) == ([], [], [])
    assert summary.num_passages == 3
    hit = HybridRetriever(library, embedder).search("weeks for a parent")[0]
    assert (hit.document.path, hit.passage.headings) == ("hr/leave.md", ("Leave",))
    assert hit.document.title == "Leave"


def test_documents_get_the_attributes_of_the_run_and_keep_them_in_later_ones(
    folder: Path, library: Library, embedder: HashingEmbedder
) -> None:
    def attributes() -> list[dict[str, object]]:
        return [dict(document.attributes) for document in library.documents("docs")]

    settings = IngestSettings(attributes={"team": "hr", "year": 2024})
    ingest([folder], "docs", library, embedder, settings=settings)
    assert attributes() == [{"team": "hr", "year": 2024}] * 3
    (folder / "it.txt").write_text("Laptops are replaced after 5 years.")
    assert take(folder, library, embedder).updated == ["it.txt"]
    assert attributes() == [{"team": "hr", "year": 2024}] * 3
    settings = IngestSettings(attributes={"team": "it"})
    num_encoded = embedder.num_encoded
    summary = ingest([folder / "it.txt"], "docs", library, embedder, settings=settings)
    assert (summary.unchanged, embedder.num_encoded) == (["it.txt"], num_encoded)
    assert attributes() == [{"team": "hr", "year": 2024}, {"team": "it"}, attributes()[2]]


def test_the_same_folder_again_does_nothing(
    folder: Path, library: Library, embedder: HashingEmbedder
) -> None:
    take(folder, library, embedder)
    documents, num_encoded = library.documents(), embedder.num_encoded
    file = folder.parent / "data" / "vectors" / "docs.faiss"
    written = file.stat().st_mtime_ns
    summary = take(folder, library, embedder)
    assert summary.unchanged == ["hr/leave.md", "it.txt", "zoo.html"]
    assert summary.added == summary.updated == []
    assert library.documents() == documents
    assert embedder.num_encoded == num_encoded
    assert file.stat().st_mtime_ns == written


def test_a_changed_file_replaces_its_document_alone(
    folder: Path, library: Library, embedder: HashingEmbedder
) -> None:
    take(folder, library, embedder)
    (folder / "it.txt").write_text("Laptops are replaced after 5 years.")
    (folder / "zoo.html").unlink()
    summary = take(folder, library, embedder)
    assert (summary.updated, summary.unchanged) == (["it.txt"], ["hr/leave.md"])
    assert [d.path for d in library.documents()] == ["hr/leave.md", "it.txt", "zoo.html"]
    texts = [h.passage.text for h in HybridRetriever(library, embedder).search("laptops years")]
    assert "Laptops are replaced after 5 years." in texts
    assert "Laptops are replaced after 4 years." not in texts


def test_files_that_cannot_be_read_are_named_and_the_rest_is_in(
    folder: Path, library: Library, embedder: HashingEmbedder
) -> None:
    (folder / "binary.txt").write_bytes(b"\x00\x01\x02" * 100)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    (folder / "empty.md").write_bytes(b"")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    summary = ingest(
        [folder, folder / "picture.png", folder / "missing"], "docs", library, embedder
    )
    assert [(failed.path.split("/")[-1], type(failed.error)) for failed in summary.failed] == [
        ("binary.txt", FileNotText),
        ("broken.pdf", FileDamaged),
        ("empty.md", FileEmpty),
        ("picture.png", FormatUnsupported),
        ("missing", FileMissing),
    ]
    assert len(summary.added) == 3
    assert all("\n" not in failed.error.message for failed in summary.failed)


def test_a_failing_new_version_leaves_the_former_one(
    folder: Path, library: Library, embedder: HashingEmbedder
) -> None:
    take(folder, library, embedder)
    (folder / "it.txt").write_bytes(b"\x00")
    assert len(take(folder, library, embedder).failed) == 1
    hits = HybridRetriever(library, embedder).search("laptops")
    assert "Laptops are replaced after 4 years." in {hit.passage.text for hit in hits}


def test_two_files_never_share_a_path(
    tmp_path: Path, library: Library, embedder: HashingEmbedder
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(f"Text of {name}.")
    summary = ingest([tmp_path / "one", tmp_path / "two"], "docs", library, embedder)
    assert summary.added == ["a.txt"]
    assert [type(failed.error) for failed in summary.failed] == [PathTaken]
    assert [library.text(d.id) for d in library.documents()] == ["Text of one."]


def test_a_file_above_the_limit_is_refused_without_reading_it(
    folder: Path, library: Library, embedder: HashingEmbedder
) -> None:
    with (folder / "big.txt").open("wb") as file:
        file.truncate(200_000_000)
    summary = take(folder, library, embedder)
    assert [type(failed.error) for failed in summary.failed] == [FileTooLarge]
    assert "200 MB; at most 100 MB" in summary.failed[0].error.message


def test_notes_tell_what_was_guessed(
    folder: Path, library: Library, embedder: HashingEmbedder
) -> None:
    (folder / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    ((path, note),) = take(folder, library, embedder).notes
    assert path == "latin.txt"
    assert "Windows-1252" in note


def test_file_names_in_any_bytes_are_taken(
    folder: Path, library: Library, embedder: HashingEmbedder
) -> None:
    (folder / "naïve 日本.txt").write_text("one")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.txt")).write_text("two")
    assert {"naïve 日本.txt", "\ufffd\ufffd.txt"} <= set(take(folder, library, embedder).added)


def test_progress_ends_with_all_documents_done(
    folder: Path, library: Library, embedder: HashingEmbedder
) -> None:
    events: list[IngestProgress] = []
    (folder / "empty.txt").write_bytes(b"")
    ingest([folder], "docs", library, embedder, progress=events.append)
    assert [e.num_documents_done for e in events] == sorted(e.num_documents_done for e in events)
    last = events[-1]
    assert (last.num_documents_done, last.num_documents, last.num_passages) == (4, 4, 3)
    assert last.passages_per_s is not None
    assert last.eta_s == 0.0


class InterruptedEmbedder(HashingEmbedder):
    """Is interrupted, as by Ctrl-C, on the given call of `encode`."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.calls_left = call

    def encode(self, texts: Sequence[str]) -> Vectors:
        self.calls_left -= 1
        if self.calls_left == 0:
            raise KeyboardInterrupt
        return super().encode(texts)


def test_an_interrupted_run_leaves_whole_documents_and_can_go_on(
    tmp_path: Path, library: Library, embedder: HashingEmbedder
) -> None:
    (tmp_path / "docs").mkdir()
    for number in range(30):
        lines = [f"## Part {part}\n\nFact {number}-{part} is here." for part in range(8)]
        (tmp_path / "docs" / f"{number:02}.md").write_text("\n\n".join(lines))
    settings = IngestSettings(split=SplitSettings(60, 10))
    interrupted = InterruptedEmbedder(3)
    with pytest.raises(KeyboardInterrupt):
        ingest([tmp_path / "docs"], "docs", library, interrupted, settings=settings)
    num_kept = len(library.documents())
    assert 0 < num_kept < 30
    num_passages = sum(d.num_passages for d in library.documents())
    assert library.vectors("docs").num_vectors == num_passages
    summary = ingest([tmp_path / "docs"], "docs", library, embedder, settings=settings)
    assert (len(summary.unchanged), len(summary.added)) == (num_kept, 30 - num_kept)


def test_a_full_disk_stops_the_run_and_keeps_what_was_committed(
    tmp_path: Path, library: Library, embedder: HashingEmbedder
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("Small document.")
    (tmp_path / "docs" / "b.txt").write_text("\n\n".join(f"Fact {n} stays." for n in range(20_000)))
    library.create_collection("docs")
    with library.store.reading() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 30}")
    with pytest.raises(StorageFull):
        ingest([tmp_path / "docs"], "docs", library, embedder)
    assert [d.path for d in library.documents()] == ["a.txt"]
    with library.store.reading() as connection:
        connection.execute("PRAGMA max_page_count=1000000")
    summary = ingest([tmp_path / "docs"], "docs", library, embedder)
    assert (summary.unchanged, summary.added) == (["a.txt"], ["b.txt"])


def test_another_embedder_is_refused_until_it_has_embedded_everything_again(
    tmp_path: Path, library: Library, embedder: HashingEmbedder
) -> None:
    ingest([HANDBOOK / "hr"], "docs", library, embedder)
    former = {d.path: d for d in library.documents()}
    other = HashingEmbedder(dimension=32, window_tokens=60, model="other")
    with Library(tmp_path / "data", other) as opened:
        with pytest.raises(EmbedderMismatch, match="mynah ingest --reembed --collection docs"):
            ingest([HANDBOOK / "hr"], "docs", opened, other)
        done: list[tuple[int, int]] = []
        num_passages = reembed("docs", opened, other, progress=lambda *at: done.append(at))
        assert done[-1] == (len(former), len(former))
        assert opened.collection("docs").embedder_model == "other"
        assert opened.vectors("docs").num_vectors == num_passages
        for document in opened.documents():
            text = opened.text(document.id)
            assert document.id == former[document.path].id
            passages = opened.passages(document.id)
            last = passages[0].start
            for passage in passages:
                assert passage.num_tokens <= 60
                assert passage.text == text[passage.start : passage.end]
                assert not text[last : passage.start].strip()
                last = passage.end
        hits = HybridRetriever(opened, other).search("annual leave in days")
        assert hits
        assert ingest([HANDBOOK / "hr"], "docs", opened, other).added == []
    with pytest.raises(EmbedderMismatch):
        HybridRetriever(library, embedder).search("leave")


def test_embedding_again_with_the_same_embedder_changes_no_result(
    library: Library, embedder: HashingEmbedder
) -> None:
    ingest([HANDBOOK / "it"], "docs", library, embedder)
    retriever = HybridRetriever(library, embedder)
    before = [(h.passage.text, h.score) for h in retriever.search("How long are passwords?")]
    reembed("docs", library, embedder)
    after = [(h.passage.text, h.score) for h in retriever.search("How long are passwords?")]
    assert after == before


def test_the_handbook_is_taken_in_whole(library: Library, embedder: HashingEmbedder) -> None:
    summary = ingest([HANDBOOK], "docs", library, embedder)
    assert summary.failed == []
    assert summary.notes == []
    assert len(summary.added) == sum(1 for path in HANDBOOK.rglob("*.*") if path.is_file())
