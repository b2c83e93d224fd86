"""What is kept of a document elsewhere goes in the operation that deletes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from index.collection import Library
from index.errors import StorageUnwritable
from tests.fakes import HashingEmbedder
from tests.index.drafts import put_lines


def test_every_way_to_lose_a_document_names_it(tmp_path: Path) -> None:
    gone: list[str] = []
    embedder = HashingEmbedder()
    with Library(tmp_path, embedder, forget=gone.extend) as library:
        first = put_lines(library, embedder, "a.txt", "one")
        assert not gone
        second = put_lines(library, embedder, "a.txt", "two")
        assert gone == [first.id]
        third = put_lines(library, embedder, "b.txt", "three")
        library.delete("docs", [third.id])
        assert gone == [first.id, third.id]
        library.delete_collection("docs")
        assert gone == [first.id, third.id, second.id]


def test_a_document_whose_states_cannot_be_deleted_stays(tmp_path: Path) -> None:
    def refuse(_: Sequence[str]) -> None:
        raise PermissionError(13, "Permission denied")

    embedder = HashingEmbedder()
    with Library(tmp_path, embedder, forget=refuse) as library:
        document = put_lines(library, embedder, "a.txt", "one")
        with pytest.raises(StorageUnwritable):
            library.delete("docs", [document.id])
        assert library.documents("docs") == [document]
