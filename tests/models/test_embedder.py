from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from models.embedder import SentenceEmbedder, bundled_model_path
from models.errors import EmbedderUnavailable
from models.protocols import EmbedderIdentity

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    return SentenceEmbedder()


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )


def test_identity_and_token_counts_need_no_heavy_import() -> None:
    done = run(
        "import sys\n"
        "from models.embedder import SentenceEmbedder\n"
        "embedder = SentenceEmbedder()\n"
        "print(embedder.identity.model, embedder.num_tokens(['Hello world', '', 'word ' * 1000]))\n"
        "print({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules))"
    )
    assert done.stdout == "all-MiniLM-L6-v2 [4, 2, 1002]\nset()\n"


def test_the_bundled_model_is_itself(embedder: SentenceEmbedder) -> None:
    assert embedder.identity == EmbedderIdentity("all-MiniLM-L6-v2", 384, 256)


def test_encoding_is_silent_and_offline() -> None:
    done = run(
        "import socket, os\n"
        "def refuse(*_): raise OSError('no network here')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from models.embedder import SentenceEmbedder\n"
        "vectors = SentenceEmbedder().encode(['one', 'two'])\n"
        "print(vectors.shape, vectors.dtype, os.environ['HF_HUB_OFFLINE'])"
    )
    assert done.stdout == "(2, 384) float32 1\n"
    assert done.stderr == ""


def test_vectors_are_unit_and_in_order_and_batched_equals_single(
    embedder: SentenceEmbedder,
) -> None:
    texts = ["long " * 200, "Parents receive 16 weeks of leave.", "", "日本", "leave for parents"]
    vectors = embedder.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        assert float(embedder.encode([text])[0] @ vector) > 0.9999
    assert vectors[1] @ vectors[4] > vectors[1] @ vectors[3]
    assert embedder.encode([]).shape == (0, 384)


def test_threads_share_one_model(embedder: SentenceEmbedder) -> None:
    expected = embedder.encode(["some text"])
    found: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(np.allclose(embedder.encode(["some text"]), expected))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_a_folder_of_the_users_own_is_told_apart_by_its_weights(tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(bundled_model_path(), tmp_path / name / "model")
    weights = tmp_path / "two" / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    one, two = (SentenceEmbedder(tmp_path / name / "model") for name in ("one", "two"))
    assert one.identity.model.startswith("model-")
    assert one.identity != two.identity
    assert SentenceEmbedder(tmp_path / "one" / "model").identity == one.identity
    assert one.encode(["text"]).shape == (1, 384)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbedderUnavailable, match=r"config\.json cannot be read"):
        _ = SentenceEmbedder(tmp_path).identity
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EmbedderUnavailable, match="hidden_size"):
        _ = SentenceEmbedder(tmp_path).identity
    (tmp_path / "config.json").write_text(
        json.dumps({"hidden_size": 8, "max_position_embeddings": 16})
    )
    with pytest.raises(EmbedderUnavailable, match="cannot be loaded"):
        SentenceEmbedder(tmp_path).encode(["x"])
    with pytest.raises(EmbedderUnavailable, match=r"tokenizer\.json"):
        SentenceEmbedder(tmp_path).num_tokens(["x"])
