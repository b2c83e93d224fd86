"""Settings and files to what a study needs: documents, exhibits, and models opened one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from index.collection import Library
from index.retriever import HybridRetriever
from ingest.pipeline import IngestProgress
from models.imitation.errors import TrainingDataInvalid
from models.protocols import Embedder, Engine, Reader
from server.assembly import (
    find_model,
    grounding_rules,
    open_engine,
    open_library,
    open_registry,
    suit_engine,
)
from server.config import Settings
from server.evaluation.conditions import prepare_exhibits
from server.evaluation.passages import PassagePool, ingest_set
from server.evaluation.questions import QuestionSet, write_documents
from server.evaluation.runner import Material
from server.evaluation.study import OpenModel, Plan
from server.evaluation.systems import Role, System, open_system
from server.grounding.rules import GroundingRules

_INLINE_FOLDER = "passages"
_INDEX_FOLDER = "index"


@dataclass(frozen=True, slots=True)
class Source:
    """Where the documents are: a folder, a collection that exists, or in the questions."""

    docs: Path | None = None
    collection: str | None = None

    def check(self, questions: QuestionSet) -> None:
        """Raise `TrainingDataInvalid` if there is nothing to ground answers on."""
        if self.docs is None and self.collection is None and not questions.documents:
            raise TrainingDataInvalid(
                "the questions bring no passages of their own; name their documents with"
                " --docs DIR or --collection NAME.",
                param="docs",
            )


def find_source(
    settings: Settings, questions: QuestionSet, docs: Path | None, collection: str | None
) -> Source:
    """Where to look: what is named, else the set's own passages, else the only collection.

    Raises `CollectionNotFound`, or `TrainingDataInvalid` if there is no or more than one to take.
    """
    if docs is None and not (collection is None and questions.documents):
        with open_library(settings) as library:
            if collection is not None:
                return Source(collection=library.collection(collection).name)
            names = [found.name for found in library.collections() if found.num_documents]
        if len(names) != 1:
            held = f"there are {', '.join(names)}" if names else "there is none yet"
            raise TrainingDataInvalid(
                f"name the documents with --docs DIR or --collection NAME ({held}).", param="docs"
            )
        return Source(collection=names[0])
    return Source(docs)


@contextmanager
def open_material(
    plan: Plan,
    source: Source,
    embedder: Embedder,
    *,
    data_dir: Path,
    folder: Path,
    progress: Callable[[IngestProgress], None] | None = None,
    warn: Callable[[str], None],
    reader: Reader | None = None,
) -> Iterator[Material]:
    """The documents ingested and every question's exhibits, until the block ends.

    A folder is taken into an index of its own under `folder`, where the next run finds it; a
    collection is read from `data_dir` and left as it is. Near misses are those of a search without
    the `reader`, so that they are the same ones with any. Raises what `ingest_set` and the store
    raise.
    """
    source.check(plan.questions)
    is_ours = source.collection is None
    with Library(folder / _INDEX_FOLDER if is_ours else data_dir, embedder) as library:
        collection = source.collection or "evaluation"
        if is_ours:
            folders = [] if source.docs is None else [source.docs]
            if plan.questions.documents:
                folders.append(_write_inline(plan.questions, folder / _INLINE_FOLDER))
            for failure in ingest_set(
                folders, library, embedder, collection=collection, progress=progress
            ):
                warn(failure)
        pool = PassagePool(library, collection)
        exhibits = prepare_exhibits(
            plan.questions.questions,
            pool,
            HybridRetriever(library, embedder),
            num_distractors=plan.num_distractors,
            seed=plan.seed,
        )
        for ids, lack in (
            (exhibits.unlocated, "the evidence of {} is not in the documents ({})"),
            (exhibits.unproven, "{} name no evidence ({})"),
        ):
            if ids:
                named = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
                many = "1 question" if len(ids) == 1 else f"{len(ids)} questions"
                warn(f"{lack.format(many, named)}: not asked with gold and wrong passages.")
        yield Material(pool, HybridRetriever(library, embedder, reader=reader), exhibits)


def make_opener(settings: Settings, reader: Reader | None) -> OpenModel:
    """Opens models as the server would; one at a time is in memory.

    `reader` is that of the material, so that one question is read once.
    """

    @contextmanager
    def open_model(path: Path) -> Iterator[tuple[Engine, GroundingRules]]:
        chosen = settings.model_copy(update={"model": path})
        engine = open_engine(chosen, find_model(chosen))
        try:
            yield engine, suit_engine(grounding_rules(chosen, reader), engine)
        finally:
            engine.close()

    return open_model


def _write_inline(questions: QuestionSet, folder: Path) -> Path:
    """The set's own passages as files, and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    write_documents(questions.documents, folder)
    return folder


def find_system(settings: Settings, role: Role, given: str) -> System:
    """The system of a GGUF file, a JSONL file of answers or a registered model's name.

    Raises `ModelMissing`, `ModelFileInvalid`, `TrainingDataInvalid` or `ModelUnknown`.
    """
    path, name = Path(given), Path(given).stem
    if path.suffix.lower() not in (".gguf", ".jsonl") and not path.is_file():
        entry = open_registry(settings).get(given)
        path, name = entry.path, entry.name
    if path.suffix.lower() != ".jsonl":
        find_model(settings.model_copy(update={"model": path}))
    return open_system(role, name, path)
