"""Saves states until it is killed: `python killed_writer.py FOLDER`."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from models.kvfolder import KvFolder

folder = KvFolder(Path(sys.argv[1]), 1 << 30)
for number in itertools.cycle(range(64)):
    state = np.random.default_rng(number).integers(0, 256, 200_000, dtype=np.uint8)
    folder.write(bytes([number] * 32), "doc", state)
