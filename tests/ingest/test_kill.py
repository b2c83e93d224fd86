"""DESIGN.md, rule 1: kill the process anywhere, and the same command again makes it whole."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from index.collection import Library
from index.retriever import HybridRetriever
from tests.fakes import HashingEmbedder

ROOT = Path(__file__).parents[2]
NUM_DOCUMENTS = 60
NUM_KILLS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    words = random.Random(7)
    for number in range(NUM_DOCUMENTS):
        lines = [f"# Document {number}"]
        for part in range(6):
            lines.append(f"## Part {part}")
            lines += [f"Fact {words.randrange(10**6)} stands here, in {part}." for _ in range(5)]
        (folder / f"{number:02}.md").write_text("\n\n".join(lines))
    return folder


def start(folder: Path, data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.ingest.driver", str(folder), str(data_dir)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_rows(data_dir: Path) -> list[tuple[object, ...]]:
    """All that matters of a library, ids and times left out."""
    connection = sqlite3.connect(data_dir / "mynah.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.execute(
        "INSERT INTO passage_words(passage_words, rank) VALUES('integrity-check', 1)"
    )
    rows = connection.execute(
        "SELECT d.path, d.content_hash, d.title, d.num_passages, t.text, p.ordinal, p.start_offset,"
        " p.end_offset, p.headings, p.num_tokens, p.text, p.embedding FROM documents d"
        " JOIN document_texts t ON t.document_id = d.id JOIN passages p ON p.document_id = d.id"
        " ORDER BY d.path, p.ordinal"
    ).fetchall()
    connection.close()
    return rows


def check_served(data_dir: Path) -> None:
    """What is there is whole: every document has all its passages, words and vectors."""
    embedder = HashingEmbedder()
    with Library(data_dir, embedder) as library:
        documents = library.documents()
        passages = [p for d in documents for p in library.passages(d.id)]
        assert len(passages) == sum(d.num_passages for d in documents)
        if documents:
            assert library.vectors("docs").ids() == sorted(p.id for p in passages)
            sample = passages[len(passages) // 2]
            hits = HybridRetriever(library, embedder).search(sample.text, max_hits=1)
            assert hits[0].passage.text == sample.text


@pytest.mark.slow
def test_killed_at_random_moments_and_run_again_gives_the_same_rows(
    folder: Path, tmp_path: Path
) -> None:
    undisturbed = start(folder, tmp_path / "whole")
    assert undisturbed.stdout is not None
    assert undisturbed.stdout.readline() == "ready\n"
    started_s = time.monotonic()
    assert undisturbed.stdout.read() == f"{NUM_DOCUMENTS} 0 0\n"
    undisturbed.stdout.close()
    assert undisturbed.wait() == 0
    run_s = time.monotonic() - started_s
    expected = read_rows(tmp_path / "whole")

    moments = random.Random(3)
    num_cut_short = 0
    data_dir = tmp_path / "killed"
    for _ in range(NUM_KILLS):
        process = start(folder, data_dir)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, run_s))
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
        num_cut_short += process.wait() == -signal.SIGKILL
        rows: list[tuple[object, ...]] = []
        if (data_dir / "mynah.db").exists():
            check_served(data_dir)
            rows = read_rows(data_dir)
            paths = {row[0] for row in rows}
            assert rows == [row for row in expected if row[0] in paths]
        if len(rows) == len(expected):
            # All is in; the next kill shall meet a run from the beginning.
            shutil.rmtree(data_dir)
    assert num_cut_short >= NUM_KILLS // 2
    last = start(folder, data_dir)
    last.communicate()
    assert last.returncode == 0
    assert read_rows(data_dir) == expected
    check_served(data_dir)
