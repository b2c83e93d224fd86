"""Ingests a folder with the hashing embedder: `python -m tests.ingest.driver FOLDER DATA_DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from index.collection import Library
from ingest.pipeline import IngestSettings, ingest
from ingest.split import SplitSettings
from tests.fakes import HashingEmbedder


def main() -> None:
    folder, data_dir = Path(sys.argv[1]), Path(sys.argv[2])
    embedder = HashingEmbedder()
    print("ready", flush=True)
    with Library(data_dir, embedder) as library:
        settings = IngestSettings(split=SplitSettings(120, 30))
        summary = ingest([folder], "docs", library, embedder, settings=settings)
    print(len(summary.added), len(summary.unchanged), len(summary.failed), flush=True)


if __name__ == "__main__":
    main()
