"""Settings to working parts. Whatever is heavy is imported by the function that needs it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ModelFileInvalid
from models.text.excerpts import EXCERPTS, PASSAGES_KEY
from server.engine_options import STATES_FOLDER, to_engine_settings
from server.errors import ModelMissing

if TYPE_CHECKING:
    from index.collection import Library
    from models.engine import LlamaEngine
    from models.protocols import Embedder, Reader, Reranker
    from models.registry import Registry
    from server.components import Services
    from server.config import Settings
    from server.grounding.abstention import Abstention
    from server.grounding.rules import GroundingRules
    from server.grounding.types import Mode

_GGUF_MAGIC = b"GGUF"
_NUM_FOUND = 12


def find_model(settings: Settings) -> Path:
    """The GGUF to load: the one that is set, else the registry's default, else the bundled one.

    Raises `ModelMissing`, `RegistryDamaged`, and `ModelFileInvalid` for what does not begin as a
    GGUF does, so that a wrong path is known before a server listens.
    """
    path = _choose_model(settings)
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


def open_registry(settings: Settings) -> Registry:
    """The models of the data directory."""
    from models.registry import Registry

    return Registry(settings.data_dir / "models")


def resolve_mode(settings: Settings) -> Mode:
    """The grounding mode: a small model trained to quote does, any other may use its own words."""
    if settings.grounding_mode != "auto":
        return settings.grounding_mode
    return "quote" if _is_trained_to_quote(settings) else "answer"


def make_embedder(settings: Settings) -> Embedder:
    """The embedder that is set; its weights are loaded at first use."""
    from models.embedder import SentenceEmbedder

    return SentenceEmbedder(settings.embedder)


def make_reranker(settings: Settings) -> Reranker | None:
    """The cross-encoder that is set; its weights are loaded at first use.

    Raises `RerankerUnavailable` where its folder holds no model.
    """
    if settings.reranker is None:
        return None
    from models.reranker import CrossEncoderReranker

    return CrossEncoderReranker(settings.reranker)


def open_library(settings: Settings, embedder: Embedder | None = None) -> Library:
    """The documents of the data directory; loads no model. Raises a `StoreError`."""
    from index.collection import Library
    from models.kvfolder import forget_states

    # What was computed of a document's passages goes with it.
    forget = partial(forget_states, settings.data_dir / STATES_FOLDER)
    return Library(settings.data_dir, embedder or make_embedder(settings), forget=forget)


def open_engine(settings: Settings, path: Path) -> LlamaEngine:
    """The engine over the GGUF at `path`; that takes seconds. Raises a `ModelError`."""
    from models.engine import LlamaEngine

    return LlamaEngine(to_engine_settings(settings, path))


def load_services(settings: Settings, *, is_warm: bool) -> Services:
    """The engine loaded and, with `is_warm`, the embedder too; that takes seconds.

    Raises a `ModelError`, `StoreError` or `ModelMissing`.
    """
    from index.retriever import HybridRetriever
    from models.caching import remember
    from server.components import Services
    from server.grounding.grounder import GroundingService
    from server.warming import PassageWarmer

    path = find_model(settings)
    embedder = make_embedder(settings)
    library = open_library(settings, embedder)
    try:
        engine = open_engine(settings, path)
    except BaseException:
        library.close()
        raise

    warmer: PassageWarmer | None = None

    def close() -> None:
        if warmer is not None:
            warmer.close()
        engine.close()
        library.close()

    try:
        reader = make_reader(settings)
        rules = suit_engine(grounding_rules(settings, reader), engine)
        if is_warm:
            embedder.encode(["warm"])
            if reader is not None:
                reader.read("warm", ["warm"])
        remembering = remember(embedder)
        # The one reader: what the search has read of a question, its answer need not read again.
        retriever = HybridRetriever(
            library, remembering, reranker=make_reranker(settings), reader=reader
        )
        grounder = GroundingService(engine, retriever, remembering, rules)
        # A model that reads excerpts is shown no passage as it stands.
        if is_warm and engine.passage_stats.is_on and rules.is_instructed:
            max_bytes = settings.kv_disk_bytes or settings.kv_ram_bytes
            warmer = PassageWarmer(engine, library, rules, max_bytes=max_bytes)
    except BaseException:
        close()
        raise
    return Services(engine, grounder, library.collections, close)


def make_reader(settings: Settings) -> Reader | None:
    """What reads sentences together with the question; weights are loaded when it first does."""
    if not settings.reads_sentences:
        return None
    from models.reader import SentenceReader

    return SentenceReader()


def grounding_rules(settings: Settings, reader: Reader | None) -> GroundingRules:
    """How answers of the model that is set are grounded; `reader` is from `make_reader`."""
    from server.grounding.rules import GroundingRules

    return GroundingRules(
        mode=resolve_mode(settings),
        num_found=max(_NUM_FOUND, settings.max_passages),
        max_passages=settings.max_passages,
        answer_tokens=settings.answer_tokens,
        unsupported=settings.unsupported_sentences,
        abstention=_find_abstention(settings),
        rewrites_by_model=settings.rewrite_questions == "model",
        has_live_links=settings.live_links,
        reader=reader,
        # Such a model was trained for the task and knows no instructions.
        is_instructed=not _is_trained_to_quote(settings),
    )


def suit_engine(rules: GroundingRules, engine: LlamaEngine) -> GroundingRules:
    """The rules as they go with what the engine reuses.

    With its neighbours a passage would be another one for each question, kept for none.
    """
    return replace(rules, neighbour_tokens=0) if engine.passage_stats.is_on else rules


def _find_abstention(settings: Settings) -> Abstention | None:
    """What `mynah calibrate` found for the model that is set; None: the default that suits it.

    Raises `CalibrationInvalid` for a damaged file.
    """
    from server.grounding.calibration import fingerprint, load_calibration

    found = load_calibration(settings.data_dir)
    if found is None or found.model_fingerprint != fingerprint(find_model(settings)):
        return None
    return found.abstention


def _choose_model(settings: Settings) -> Path:
    from models.imitation.errors import ModelUnknown
    from models.registry_entries import find_bundled

    registry = open_registry(settings)
    model = settings.model
    if model is not None and (model.is_absolute() or model.exists()):
        return model
    if model is not None:
        try:
            entry = registry.get(str(model))
        except ModelUnknown as error:
            raise ModelMissing(
                f"there is no model file {model} here, and {error.message}", param="model"
            ) from None
    else:
        default = registry.default()
        if default is None:
            bundled = find_bundled()
            if bundled is None:
                raise ModelMissing(
                    "no model comes with this installation; name a GGUF file with --model PATH.",
                    param="model",
                )
            return bundled
        entry = default
    registry.check_file(entry)
    return entry.path


def _is_trained_to_quote(settings: Settings) -> bool:
    """Whether the model comes with Mynah, or says that it was trained on excerpts."""
    from models.gguf import read_header
    from models.registry_entries import find_bundled

    path, bundled = find_model(settings), find_bundled()
    if bundled is not None and path.resolve().parent == bundled.resolve().parent:
        return True
    return read_header(path).text(PASSAGES_KEY) == EXCERPTS
