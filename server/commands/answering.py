"""Answers for the terminal: the grounder is asked directly, without HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from index.errors import CollectionNotFound, DocumentNotFound
from models.errors import EngineStopped
from server.commands.context import CommandContext
from server.components import Services
from server.grounding.types import AnswerEnd, GroundingScope, Mode, TextDelta

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.protocols import Message, SamplingSettings


@contextmanager
def open_services(
    options: CommandContext, model: Path | None, scope: GroundingScope
) -> Iterator[Services]:
    """The loaded parts, freed at the end.

    Looks for documents before it loads a model: raises `CollectionNotFound` or
    `DocumentNotFound` where there are none, and what `load_services` raises.
    """
    from server.assembly import load_services, resolve_mode

    settings = options.load_settings(model=model)
    if (scope.mode or resolve_mode(settings)) != "off":
        _require_documents(options, scope.collections)
    services = load_services(settings, is_warm=False)
    try:
        yield services
    finally:
        services.close()


async def answer(
    services: Services,
    messages: Sequence[Message],
    scope: GroundingScope,
    sampling: SamplingSettings,
    show: Callable[[str], None],
) -> AnswerEnd:
    """The end of an answer, whose pieces of text were given to `show` as they came."""
    async with aclosing(await services.grounder.answer(messages, scope, sampling)) as stream:
        async for event in stream:
            if isinstance(event, TextDelta):
                show(event.text)
            else:
                return event
    raise EngineStopped("The answer ended before it was complete.")


def to_scope(mode: Mode | None, collection: str | None, max_passages: int | None) -> GroundingScope:
    """The options of a command as a scope."""
    return GroundingScope(mode, None if collection is None else (collection,), max_passages)


def _require_documents(options: CommandContext, collections: tuple[str, ...] | None) -> None:
    from server.assembly import open_library

    with open_library(options.load_settings()) as library:
        found = {c.name: c for c in library.collections()}
    for name in collections or ():
        if name not in found:
            raise CollectionNotFound(f"there is no collection {name!r}.", param="collection")
    if not any(found[name].num_documents for name in collections or found):
        raise DocumentNotFound("there are no documents yet; add some with `mynah ingest PATH`.")
