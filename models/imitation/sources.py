"""Source rows and documents as passages: reading, decontamination, sentences, sections."""

from __future__ import annotations

import json
import lzma
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
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
# Han, kana and Hangul are written without spaces: each character counts as a word.
_GUARDED = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
_QUESTION_KEYS = ("question", "query", "prompt", "instruction", "turns")
# A shorter question is told from everyday words only where it stands as a sentence of its own.
_MIN_INNER_WORDS = 4
_SENTENCE_MARK = re.compile(r"[.?!:;\n\u3002\uff1f\uff01]+")


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


def guarded_words(text: str) -> list[str]:
    """Return what held-out text is known by: words of any script, without case and apostrophes."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("\u2019", "")
    return _GUARDED.findall(plain)


def runs(text: str, num_words: int = RUN_WORDS) -> Iterator[str]:
    """Yield every run of `num_words` consecutive words of `text`, as `guarded_words` has them."""
    found = guarded_words(text)
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


def questions_of(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an evaluation row asks: its question, prompt, turns or user messages."""
    for key in _QUESTION_KEYS:
        value = row.get(key)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                yield text
    messages = row.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, dict) and message.get("role") == "user":
            yield from strings_of(message.get("content"))


class Decontaminator:
    """Tells whether a text shares a run of 12 words, or a whole question, with held-out files."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._runs: set[str] = set()
        self._questions: set[str] = set()
        # The first words of a question -> the questions that begin so.
        self._openings: dict[str, list[list[str]]] = {}
        for path in paths:
            for row in read_jsonl(path):
                self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Hold out one row: every run of 12 words of any string in it, and its questions."""
        for text in strings_of(row):
            self._runs.update(runs(text))
        for question in questions_of(row):
            found = guarded_words(question)
            joined = " ".join(found)
            if not found or joined in self._questions:
                continue
            self._questions.add(joined)
            if len(found) >= _MIN_INNER_WORDS:
                opening = " ".join(found[:_MIN_INNER_WORDS])
                self._openings.setdefault(opening, []).append(found)

    def find(self, text: str) -> str | None:
        """Return the first held-out run of words that stands in `text`."""
        return next((run for run in runs(text) if run in self._runs), None)

    def hits(self, text: str) -> bool:
        return self.find(text) is not None

    def find_question(self, text: str) -> str | None:
        """Return the words of `text` that are held out: a question or a run.

        A question is found as the whole text, as one of its sentences, and, from four words on,
        anywhere in it.
        """
        found = guarded_words(text)
        whole = " ".join(found)
        if whole in self._questions:
            return whole
        for start in range(len(found) - _MIN_INNER_WORDS + 1):
            opening = " ".join(found[start : start + _MIN_INNER_WORDS])
            for question in self._openings.get(opening, ()):
                if found[start : start + len(question)] == question:
                    return " ".join(question)
        for sentence in _SENTENCE_MARK.split(text):
            part = guarded_words(sentence)
            if 1 < len(part) < _MIN_INNER_WORDS and " ".join(part) in self._questions:
                return " ".join(part)
        return self.find(text)

    def hits_question(self, question: str) -> bool:
        return self.find_question(question) is not None


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
