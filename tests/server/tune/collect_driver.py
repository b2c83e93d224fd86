"""Collects grounded rows over a library of the hashing embedder, in a process of its own.

`python -m tests.server.tune.collect_driver DATA_DIR OUT URL NUM_ROWS`
"""

from __future__ import annotations

import sys
from pathlib import Path

from index.collection import Library
from index.retriever import HybridRetriever
from models.imitation.collecting.collector import Collector
from models.imitation.collecting.grounded import GroundedMode
from models.imitation.collecting.seeds import GROUNDED_SEEDS, read_seeds
from models.imitation.collecting.teacher import Teacher
from models.imitation.collecting.types import Limits
from server.commands.tune.collecting import LibraryPassages
from tests.fakes import HashingEmbedder


def main() -> None:
    data_dir, out, url, num_rows = sys.argv[1:]
    embedder = HashingEmbedder()
    with Library(Path(data_dir), embedder) as library:
        passages = LibraryPassages(library, HybridRetriever(library, embedder), None)
        mode = GroundedMode(read_seeds(GROUNDED_SEEDS, at_least=12), 1, passages)
        limits = Limits(int(num_rows))
        Collector(mode, Teacher(url, "teacher"), Path(out), limits, row_license="CC0-1.0").run()


if __name__ == "__main__":
    main()
