"""A document's text cut into passages that the embedder sees whole."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from index.types import DocumentDraft, PassageDraft
from ingest.blocks import find_blocks
from ingest.cuts import cut
from ingest.readers.base import ReadDocument, Section

CountTokens = Callable[[Sequence[str]], list[int]]

_MAX_HEADER_SHARE = 0.3
_HEADER_SEPARATOR = " > "


@dataclass(frozen=True, slots=True)
class SplitSettings:
    """Sizes of passages in characters; the embedder's window binds besides.

    A passage shorter than `min_chars` is joined to its neighbour where the window allows it.
    """

    max_chars: int = 800
    min_chars: int = 160


@dataclass(frozen=True, slots=True)
class _Unit:
    """A slice that is not cut again, and its tokens without special ones."""

    start: int
    end: int
    num_tokens: int


class Splitter:
    """Cuts documents for one embedder: structure first, then size in the embedder's own tokens."""

    def __init__(
        self, count_tokens: CountTokens, window_tokens: int, settings: SplitSettings | None = None
    ) -> None:
        self._count_tokens = count_tokens
        self._window_tokens = window_tokens
        self._settings = settings or SplitSettings()
        self._num_special = count_tokens([""])[0]

    def split(self, document: ReadDocument, path: str) -> tuple[PassageDraft, ...]:
        """Passages in order, which together hold every character of the sections but white space.

        Each is a slice of the text, lies in one section and fits, behind its header, into the
        window. `num_tokens` counts what the embedder sees: header, passage and special tokens.
        """
        drafts: list[PassageDraft] = []
        for section in document.sections:
            header = self.header(path, document.title, section.headings)
            for start, end, num_tokens in self._split_section(document.text, section, header):
                page = bisect_right(document.page_starts, start) or None
                drafts.append(PassageDraft(start, end, section.headings, page, num_tokens))
        return tuple(drafts)

    def keep_or_split(self, document: ReadDocument, path: str) -> tuple[PassageDraft, ...]:
        """As `split`, but a section that fits the window as it is stays one passage."""
        drafts: list[PassageDraft] = []
        for section in document.sections:
            header = self.header(path, document.title, section.headings)
            text = embedded_text(header, document.text[section.start : section.end])
            (num_tokens,) = self._count_tokens([text])
            if num_tokens > self._window_tokens:
                drafts += self.split(replace(document, sections=(section,)), path)
                continue
            page = bisect_right(document.page_starts, section.start) or None
            drafts.append(
                PassageDraft(section.start, section.end, section.headings, page, num_tokens)
            )
        return tuple(drafts)

    def header(self, path: str, title: str | None, headings: Sequence[str]) -> str:
        """What is embedded in front of a passage: folders, file name, title, headings; none twice.

        At most 30 % of the window: general parts are left out first, then words of the last one.
        """
        *folders, name = path.replace("-", " ").replace("_", " ").split("/")
        names = [*folders, name.rsplit(".", 1)[0]]
        parts: list[str] = []
        for part in (*(" ".join(name.split()) for name in names), title, *headings):
            if part and part.casefold() not in (known.casefold() for known in parts):
                parts.append(part)
        limit = int(self._window_tokens * _MAX_HEADER_SHARE)
        while len(parts) > 1 and self._num_tokens(_HEADER_SEPARATOR.join(parts)) > limit:
            del parts[0]
        header = _HEADER_SEPARATOR.join(parts)
        while header and self._num_tokens(header) > limit:
            header = header[: len(header) * 3 // 4]
        return header

    def embedded_texts(self, draft: DocumentDraft) -> list[str]:
        """What the embedder sees of each passage of the draft, in order."""
        headers = {
            headings: self.header(draft.path, draft.title, headings)
            for headings in {passage.headings for passage in draft.passages}
        }
        return [
            embedded_text(headers[passage.headings], draft.text[passage.start : passage.end])
            for passage in draft.passages
        ]

    def _num_tokens(self, text: str) -> int:
        return self._count_tokens([text])[0] - self._num_special

    def _split_section(
        self, text: str, section: Section, header: str
    ) -> list[tuple[int, int, int]]:
        """Slices of a section with their tokens as embedded."""
        room = self._window_tokens - self._num_special - self._num_tokens(header)
        slices = [(b.start, b.end) for b in find_blocks(text, section.start, section.end)]
        spans = self._pack(text, self._fit(text, slices, room), room)
        while True:
            counts = self._count_tokens([embedded_text(header, text[a:b]) for a, b in spans])
            if max(counts, default=0) <= self._window_tokens:
                return [(a, b, n) for (a, b), n in zip(spans, counts, strict=True)]
            # Joined slices may take a token more than their parts do.
            spans = [
                piece
                for (a, b), n in zip(spans, counts, strict=True)
                for piece in (
                    cut(text, a, b, max(1, (b - a) // 2)) if n > self._window_tokens else [(a, b)]
                )
            ]

    def _fit(self, text: str, slices: list[tuple[int, int]], room: int) -> list[_Unit]:
        """The slices as units, cut where they have too many characters or tokens."""
        limit = self._settings.max_chars
        pending = [piece for start, end in slices for piece in cut(text, start, end, limit)]
        units: list[_Unit] = []
        while pending:
            counts = self._count_tokens([text[start:end] for start, end in pending])
            rest: list[tuple[int, int]] = []
            for (start, end), count in zip(pending, counts, strict=True):
                num_tokens = count - self._num_special
                if num_tokens <= room or end - start <= 1:
                    units.append(_Unit(start, end, num_tokens))
                else:
                    limit = max(1, (end - start) * room * 9 // (num_tokens * 10))
                    rest += cut(text, start, end, min(limit, end - start - 1))
            pending = rest
        return sorted(units, key=lambda unit: unit.start)

    def _pack(self, text: str, units: list[_Unit], room: int) -> list[tuple[int, int]]:
        """Neighbouring units joined to passages of about the same size."""
        settings = self._settings
        num_chars = sum(unit.end - unit.start for unit in units)
        num_passages = max(1, -(-num_chars // settings.max_chars))
        target = num_chars / num_passages
        groups: list[list[_Unit]] = []
        for unit in units:
            group = groups[-1] if groups else []
            size = unit.end - group[0].start if group else 0
            tokens = sum(member.num_tokens for member in group) + unit.num_tokens
            filled = group[-1].end - group[0].start if group else 0
            leads_in = bool(group) and text.endswith(":", group[0].start, group[-1].end)
            if (
                group
                and tokens <= room
                and size <= settings.max_chars
                and (filled < target * 0.9 or leads_in)
            ):
                group.append(unit)
            else:
                groups.append([unit])
        return [(group[0].start, group[-1].end) for group in self._join_small(groups, room)]

    def _join_small(self, groups: list[list[_Unit]], room: int) -> list[list[_Unit]]:
        """Groups where one that is too short has gone to the smaller neighbour, if that has room.

        It may grow a quarter beyond the usual size for it.
        """
        settings = self._settings

        def size(group: list[_Unit]) -> int:
            return group[-1].end - group[0].start

        def fits(group: list[_Unit]) -> bool:
            tokens = sum(unit.num_tokens for unit in group)
            return tokens <= room and size(group) <= settings.max_chars * 1.25

        joined: list[list[_Unit]] = []
        for index, group in enumerate(groups):
            following = groups[index + 1] if index + 1 < len(groups) else None
            is_small = size(group) < settings.min_chars
            if joined and (is_small or size(joined[-1]) < settings.min_chars):
                prefers_next = (
                    is_small
                    and following is not None
                    and size(following) < size(joined[-1])
                    and fits(group + following)
                )
                if not prefers_next and fits(joined[-1] + group):
                    joined[-1] = joined[-1] + group
                    continue
            joined.append(group)
        return joined


def embedded_text(header: str, text: str) -> str:
    """What the embedder sees of a passage: the header that places it, then its text."""
    return f"{header}\n{text}" if header else text
