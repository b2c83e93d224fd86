"""Passages cut down to their most promising sentences, as the bundled model reads them.

A small decoder reads eight sentences better than four whole passages, and eight sentences are
prefilled in a quarter of the time. In front of each stand two digits, the tenths of its word
overlap and of its cosine with the question: the sentence embedder knows what words mean, and the
decoder is told what it thinks of each sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.text.plain import read_plain
from models.text.ranking import RankedSentence

# GGUF metadata: the value says how a model was trained to be shown passages.
PASSAGES_KEY = "mynah.passages"
EXCERPTS = "excerpts"

MAX_LINES = 8
MAX_LINE_CHARS = 400
# A tab never stands inside a sentence's text, and no BPE merge crosses it.
SEPARATOR = "\t"


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The chosen sentences of passage number `passage`, in its order, one a line."""

    passage: int
    text: str
    sentences: tuple[RankedSentence, ...]


def build_excerpts(
    ranked: Sequence[RankedSentence], *, max_lines: int = MAX_LINES
) -> list[Excerpt]:
    """Excerpts of the passages that hold the first `max_lines` of `ranked`, best passage first.

    `ranked` is in order of score. Sentences over `MAX_LINE_CHARS` are passed over while there are
    others.
    """
    sizes = [len(read_plain(item.sentence.text)) for item in ranked]
    short = [item for item, size in zip(ranked, sizes, strict=True) if size <= MAX_LINE_CHARS]
    long = [item for item, size in zip(ranked, sizes, strict=True) if size > MAX_LINE_CHARS]
    chosen = (short or long[:1])[:max_lines]
    by_passage: dict[int, list[RankedSentence]] = {}
    for item in chosen:
        by_passage.setdefault(item.passage, []).append(item)
    excerpts = []
    for passage, items in by_passage.items():
        items.sort(key=lambda item: item.sentence.start)
        text = "\n".join(format_line(item) for item in items)
        excerpts.append(Excerpt(passage, text, tuple(items)))
    return excerpts


def format_line(item: RankedSentence) -> str:
    """The sentence in plain words behind its two digits."""
    plain = read_plain(item.sentence.text)
    return f"{_tenths(item.words)}{_tenths(item.meaning)}{SEPARATOR}{plain}"


def _tenths(value: float) -> int:
    return min(9, max(0, int(10 * value)))
