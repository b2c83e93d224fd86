"""Pairs of question and passage scored together, by a cross-encoder that lies on this machine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.embedder import quiet_libraries
from models.errors import RerankerUnavailable

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_BATCH_SIZE = 16


class CrossEncoderReranker:
    """A `Reranker` over the folder of a sentence-transformers cross-encoder.

    The folder is looked into at once, the weights are loaded at the first `score`. All methods
    may be called from any thread.
    """

    def __init__(self, model_path: Path) -> None:
        """Raises `RerankerUnavailable` if there is no model in the folder."""
        if not (model_path / "config.json").is_file():
            raise RerankerUnavailable(
                f"There is no cross-encoder in {model_path}: config.json is missing; name the"
                " folder of a sentence-transformers model, or leave the reranker unset.",
                param="reranker",
            )
        self._path = model_path
        self._lock = threading.Lock()
        self._model: CrossEncoder | None = None

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the question, 0..1, in order.

        The logistic function of the model's logit. Raises `RerankerUnavailable` where the weights
        cannot be loaded or do not give one score for a pair.
        """
        if not texts:
            return []
        with self._lock:
            if self._model is None:
                self._model = _load(self._path)
            from torch.nn import Sigmoid

            scores = self._model.predict(
                [(question, text) for text in texts],
                batch_size=_BATCH_SIZE,
                show_progress_bar=False,
                activation_fn=Sigmoid(),
            )
        return [float(score) for score in scores]


def _load(path: Path) -> CrossEncoder:
    try:
        quiet_libraries()
        from sentence_transformers import CrossEncoder
    except ImportError as error:
        raise RerankerUnavailable(
            f"The reranker needs sentence-transformers and torch: {error}", param="reranker"
        ) from error
    try:
        model = CrossEncoder(str(path), device="cpu", local_files_only=True)
    except Exception as error:  # damaged weights surface as whatever the libraries raise
        reason = " ".join(str(error).split())
        raise RerankerUnavailable(
            f"The cross-encoder in {path} cannot be loaded: {reason}", param="reranker"
        ) from error
    if model.num_labels != 1:
        raise RerankerUnavailable(
            f"The model in {path} gives {model.num_labels} scores for a pair; a reranker must give"
            " one.",
            param="reranker",
        )
    found: CrossEncoder = model
    return found
