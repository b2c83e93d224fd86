"""Which documents a request's `model` and `grounding` choose."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from index.errors import CollectionNotFound
from index.filters import parse_filter
from index.types import CollectionInfo
from server.components import Services
from server.errors import InvalidValue, ModelNotFound
from server.grounding.types import GroundingScope
from server.schemas.chat import ChatRequest, GroundingOptions

GROUNDED_MODEL = "mynah"
RAW_MODEL = "mynah-raw"
_FILTERS = "grounding.filters"
_COLLECTION_PREFIX = GROUNDED_MODEL + "/"


async def list_collections(services: Services) -> list[CollectionInfo]:
    """Every collection, by name; reads the database in a thread."""
    found: Sequence[CollectionInfo] = await asyncio.to_thread(services.list_collections)
    return sorted(found, key=lambda collection: collection.name)


def to_model_id(collection: str) -> str:
    """The model that answers from one collection."""
    return _COLLECTION_PREFIX + collection


async def resolve_scope(request: ChatRequest, services: Services) -> GroundingScope:
    """What `model` and `grounding` say together.

    Raises `ModelNotFound`, `CollectionNotFound`, `FilterInvalid`, or `InvalidValue` where they
    contradict.
    """
    options = request.grounding or GroundingOptions()
    if request.model == RAW_MODEL:
        if options.mode not in (None, "off") or options.collections or options.filters:
            raise InvalidValue(
                f"'{RAW_MODEL}' answers without documents; choose '{GROUNDED_MODEL}' to use"
                " 'grounding'.",
                param="grounding",
            )
        return GroundingScope(mode="off")
    if request.model == GROUNDED_MODEL:
        collections = None if options.collections is None else tuple(options.collections)
    elif request.model.startswith(_COLLECTION_PREFIX):
        collections = (request.model.removeprefix(_COLLECTION_PREFIX),)
        if options.collections not in (None, list(collections)):
            raise InvalidValue(
                "'grounding.collections' names others than 'model' does; give one of the two.",
                param="grounding.collections",
            )
    else:
        raise _model_not_found(request.model)
    if collections is not None:
        await _check_collections(request, collections, services)
    return GroundingScope(
        options.mode,
        collections,
        options.max_passages,
        options.min_evidence,
        filters=None if options.filters is None else parse_filter(options.filters, _FILTERS),
    )


async def _check_collections(
    request: ChatRequest, names: tuple[str, ...], services: Services
) -> None:
    known = {collection.name for collection in await list_collections(services)}
    for name in names:
        if name in known:
            continue
        if request.model != GROUNDED_MODEL:
            raise _model_not_found(request.model)
        raise CollectionNotFound(
            f"There is no collection {name[:80]!r}.", param="grounding.collections"
        )


def _model_not_found(model: str) -> ModelNotFound:
    return ModelNotFound(
        f"There is no model {model[:80]!r}; GET /v1/models lists those there are.", param="model"
    )
