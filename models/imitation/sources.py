"""Source rows and documents as passages: reading, decontamination, sentences, sections."""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORD = re.compile(r"[a-z0-9]+")
# A full stop ends a sentence when something that can open one follows; the look-behinds keep
# the commonest abbreviations together.
BREAK = re.compile(
    r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\betc\.)(?<!\bvs\.)(?<!\bDr\.)(?<!\bMr\.)"
    r"(?<!\bU\.S\.)(?<!\bNo\.)(?<!\bal\.)(?<!\b[A-Z]\.)[\"')\]]?\s+(?=[\"'(\[A-Z0-9-])|\s*\n\s*"
)
# 12 words are the run that the project's own evaluation files are guarded with.
RUN_WORDS = 12


@dataclass(frozen=True)
class Passage:
    """A slice of a document as the chat template's `documents` variable has it."""

    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """The text under one heading, with the headings above it."""

    headings: tuple[str, ...]
    text: str


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a `.jsonl` or `.jsonl.xz` file in order."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def words(text: str) -> list[str]:
    """Return the lower-case words and numbers of `text` in order."""
    return WORD.findall(text.lower())


def runs(text: str, num_words: int = RUN_WORDS) -> Iterator[str]:
    """Yield every run of `num_words` consecutive words of `text`."""
    found = words(text)
    for start in range(len(found) - num_words + 1):
        yield " ".join(found[start : start + num_words])


def strings_of(value: object) -> Iterator[str]:
    """Yield every string inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_of(item)


class Decontaminator:
    """Tells whether a text shares a run of 12 words, or a whole question, with held-out files."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._runs: set[str] = set()
        self._questions: set[str] = set()
        for path in paths:
            for row in read_jsonl(path):
                for text in strings_of(row):
                    self._runs.update(runs(text))
                if isinstance(row.get("question"), str):
                    self._questions.add(" ".join(words(row["question"])))

    def hits(self, text: str) -> bool:
        return any(run in self._runs for run in runs(text))

    def hits_question(self, question: str) -> bool:
        return " ".join(words(question)) in self._questions or self.hits(question)


def split_sentences(text: str) -> list[str]:
    """Return the sentences of `text`, each a verbatim substring, in order, stripped."""
    found = []
    start = 0
    for match in BREAK.finditer(text):
        # A closing quotation mark belongs to the sentence, the white space after it to none.
        end = match.start() + len(match.group().rstrip())
        end = end if match.group().strip() else match.start()
        found.append(text[start:end].strip())
        start = match.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if sentence]


def sections_of(text: str, title: str) -> list[Section]:
    """Return the sections of a Markdown text with their heading path, code blocks left out."""
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    in_code = False

    def close() -> None:
        body = re.sub(r"\n{2,}", "\n\n", "\n".join(lines)).strip()
        if body:
            sections.append(Section(tuple(heading for _, heading in path) or (title,), body))
        lines.clear()

    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            in_code = not in_code
            continue
        heading = re.match(r"(#{1,6})\s+(.+?)\s*#*$", line)
        if in_code:
            continue
        if heading:
            close()
            level = len(heading.group(1))
            while path and path[-1][0] >= level:
                path.pop()
            path.append((level, heading.group(2).strip("*_ ")))
        else:
            lines.append(line.strip())
    close()
    return sections


def passages_of(section: Section, name: str, max_chars: int) -> list[Passage]:
    """Return passages of whole sentences, at most `max_chars` each, titled `name > heading`."""
    title = f"{name} > {section.headings[-1]}" if section.headings else name
    found: list[Passage] = []
    start = 0
    end = 0
    position = 0
    for sentence in split_sentences(section.text):
        position = section.text.index(sentence, position)
        stop = position + len(sentence)
        if stop - start > max_chars and end > start:
            found.append(Passage(title, section.text[start:end]))
            start = position
        end = stop
        position = stop
    if end > start:
        found.append(Passage(title, section.text[start:end]))
    return [passage for passage in found if len(passage.text) <= 2 * max_chars]
