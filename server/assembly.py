"""Settings to working parts. Whatever is heavy is imported by the function that needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ModelFileInvalid
from server.errors import ModelMissing

if TYPE_CHECKING:
    from index.collection import Library
    from models.protocols import Embedder
    from server.components import Services
    from server.config import Settings
    from server.grounding.grounder import GroundingRules
    from server.grounding.types import Mode

_GGUF_MAGIC = b"GGUF"
_NUM_FOUND = 12


def find_model(settings: Settings) -> Path:
    """The GGUF to load: the one that is set, or the newest of those that come with Mynah.

    Raises `ModelMissing`, and `ModelFileInvalid` for what does not begin as a GGUF does, so that
    a wrong path is known before a server listens.
    """
    path = settings.model or _find_bundled_model()
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except FileNotFoundError:
        raise ModelMissing(f"there is no model file {path}.", param="model") from None
    except OSError as error:
        raise ModelFileInvalid(f"cannot read {path}: {error.strerror}.", param="model") from error
    if magic != _GGUF_MAGIC:
        raise ModelFileInvalid(f"{path} is not a GGUF file.", param="model")
    return path


def resolve_mode(settings: Settings) -> Mode:
    """The grounding mode: a small bundled model quotes, a larger one may use its own words."""
    if settings.grounding_mode != "auto":
        return settings.grounding_mode
    return "quote" if _is_bundled(settings) else "answer"


def make_embedder(settings: Settings) -> Embedder:
    """The embedder that is set; its weights are loaded at first use."""
    from models.embedder import SentenceEmbedder

    return SentenceEmbedder(settings.embedder)


def open_library(settings: Settings, embedder: Embedder | None = None) -> Library:
    """The documents of the data directory; loads no model. Raises a `StoreError`."""
    from index.collection import Library

    return Library(settings.data_dir, embedder or make_embedder(settings))


def load_services(settings: Settings, *, is_warm: bool) -> Services:
    """The engine loaded and, with `is_warm`, the embedder too; that takes seconds.

    Raises a `ModelError`, `StoreError` or `ModelMissing`.
    """
    from index.retriever import HybridRetriever
    from models.engine import LlamaEngine
    from models.engine_settings import EngineSettings
    from server.components import Services
    from server.grounding.grounder import GroundingService

    path = find_model(settings)
    embedder = make_embedder(settings)
    library = open_library(settings, embedder)
    try:
        engine = LlamaEngine(
            EngineSettings(
                path=path,
                num_ctx=settings.context_tokens,
                num_slots=settings.num_slots,
                num_threads=settings.num_threads,
                num_gpu_layers=settings.num_gpu_layers,
                max_waiting=settings.max_waiting,
            )
        )
    except BaseException:
        library.close()
        raise

    def close() -> None:
        engine.close()
        library.close()

    try:
        if is_warm:
            embedder.encode(["warm"])
        grounder = GroundingService(
            engine, HybridRetriever(library, embedder), embedder, _grounding_rules(settings)
        )
    except BaseException:
        close()
        raise
    return Services(engine, grounder, library.collections, close)


def _grounding_rules(settings: Settings) -> GroundingRules:
    from server.grounding.grounder import GroundingRules

    return GroundingRules(
        mode=resolve_mode(settings),
        num_found=max(_NUM_FOUND, settings.max_passages),
        max_passages=settings.max_passages,
        answer_tokens=settings.answer_tokens,
        unsupported=settings.unsupported_sentences,
        # The bundled model was trained for the task and knows no instructions.
        is_instructed=not _is_bundled(settings),
    )


def _is_bundled(settings: Settings) -> bool:
    return settings.model is None or settings.model.resolve().parent == _weights_folder().resolve()


def _weights_folder() -> Path:
    import models

    return Path(models.__file__ or "").parent / "weights"


def _find_bundled_model() -> Path:
    found = sorted(
        _weights_folder().glob("*.gguf"), key=lambda path: (path.stat().st_mtime, path.name)
    )
    if not found:
        raise ModelMissing(
            "no model comes with this installation; name a GGUF file with --model PATH.",
            param="model",
        )
    return found[-1]
