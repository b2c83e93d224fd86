"""Question sets: JSONL with a question and its answers a line, and SQuAD 1.1 and 2.0 JSON."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.imitation.errors import TrainingDataInvalid
from models.imitation.metrics import contains_all
from models.protocols import Message
from models.text.sentences import segment


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its gold answers.

    `docs` are paths below the set's documents, `evidence` stands verbatim in them (white space
    aside), one for each; `evidence_plain` is the same without Markdown's marks.
    """

    id: str
    text: str
    kind: str
    is_answerable: bool
    answers: tuple[str, ...]
    all_of: tuple[tuple[str, ...], ...] = ()
    evidence: tuple[str, ...] = ()
    evidence_plain: tuple[str, ...] = ()
    docs: tuple[str, ...] = ()
    history: tuple[Message, ...] = ()

    @property
    def messages(self) -> list[Message]:
        """The conversation that ends with the question."""
        return [*self.history, Message("user", self.text)]

    def is_answered_in_full(self, text: str) -> bool:
        """Whether `text` holds an answer of every group of `all_of` (any answer without it)."""
        return contains_all(text, self.answers, self.all_of)


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions in order; `documents` maps path to text where a set brings its own passages.

    `unreviewed` are the ids of drafted questions that nobody has confirmed.
    """

    name: str
    questions: tuple[Question, ...]
    documents: Mapping[str, str] = field(default_factory=dict)
    unreviewed: frozenset[str] = frozenset()

    @property
    def sha256(self) -> str:
        """Hash of what is asked, of whom and with which gold answers."""
        text = json.dumps([repr(question) for question in self.questions])
        return hashlib.sha256((text + json.dumps(dict(self.documents))).encode()).hexdigest()

    def take(self, limit: int | None) -> QuestionSet:
        """At most `limit` of the questions, drawn evenly over the set."""
        num = len(self.questions)
        if limit is None or limit >= num:
            return self
        chosen = tuple(self.questions[i * num // limit] for i in range(limit))
        return replace(self, questions=chosen)

    def detach(self) -> QuestionSet:
        """The same without its own documents: its evidence is looked for in all of a collection."""
        if not self.documents:
            return self
        bare = tuple(replace(question, docs=()) for question in self.questions)
        return replace(self, questions=bare, documents={})


def read_question_set(path: Path) -> QuestionSet:
    """The questions of a `.jsonl` file or of a SQuAD `.json` file.

    A line of JSONL needs `question`, and `answers` (a list of texts) or `"answerable": false`;
    `examples/README.md` lists what else it may say. Raises `TrainingDataInvalid` naming the line
    or the place, also for an id used twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataInvalid(f"cannot read {path}: {error}.") from None
    documents: dict[str, str] = {}
    unreviewed: set[str] = set()
    read = _read_squad_file if path.suffix.lower() == ".json" else _read_lines
    questions: dict[str, Question] = {}
    for place, question in read(path, text, documents, unreviewed):
        if question.id in questions:
            raise TrainingDataInvalid(f"{place}: the id {question.id!r} is used twice.")
        questions[question.id] = question
    if not questions:
        raise TrainingDataInvalid(f"{path} holds no questions.")
    return QuestionSet(path.stem, tuple(questions.values()), documents, frozenset(unreviewed))


def read_questions(path: Path) -> list[Question]:
    """The questions of a file, as `read_question_set`."""
    return list(read_question_set(path).questions)


def _read_squad_file(
    path: Path, text: str, documents: dict[str, str], _: set[str]
) -> Iterator[tuple[str, Question]]:
    try:
        for question in _read_squad(json.loads(text), documents):
            yield str(path), question
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrainingDataInvalid(
            f"{path} is not in the SQuAD format: {_explain(error)}."
        ) from None


def _read_lines(
    path: Path, text: str, documents: dict[str, str], unreviewed: set[str]
) -> Iterator[tuple[str, Question]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = json.loads(line)
            question = _read_row(row, number, documents)
        except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise TrainingDataInvalid(f"{place}: {_explain(error)}.") from None
        if row.get("reviewed", True) is False:
            unreviewed.add(question.id)
        yield place, question


def _explain(error: Exception) -> str:
    """What is wrong, in words that tell what to change."""
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg} at column {error.colno})"
    if isinstance(error, KeyError):
        return f"the field {error.args[0]!r} is missing"
    return str(error)


def _read_row(row: Any, number: int, documents: dict[str, str]) -> Question:
    if not isinstance(row, Mapping):
        raise TypeError("a line must be one JSON object")
    id_, text = str(row.get("id", f"line-{number}")), row["question"]
    if not isinstance(text, str) or not text.strip():
        raise TypeError("the question must be a text")
    answers = _texts(row["answers"] if row.get("answerable", True) else row.get("answers", ()))
    docs = _filled(row, "doc", "doc2")
    evidence = _filled(row, "evidence", "evidence2")
    if passage := row.get("passage"):
        docs, evidence = (f"{_to_path(id_)}.txt",), evidence or (str(passage),)
        documents[docs[0]] = str(passage)
    is_answerable = row.get("answerable", bool(answers))
    if not isinstance(is_answerable, bool):
        raise TypeError("answerable must be true or false")
    if is_answerable and not answers:
        raise TypeError("an answerable question needs answers")
    return Question(
        id=id_,
        text=text,
        kind=str(row.get("type") or row.get("category") or row.get("kind") or "question"),
        is_answerable=is_answerable,
        answers=answers,
        all_of=tuple(_texts(group) for group in row.get("all_of") or ()),
        evidence=evidence,
        evidence_plain=_filled(row, "evidence_plain", "evidence2_plain"),
        docs=docs,
        history=tuple(_read_turn(turn) for turn in row.get("history") or ()),
    )


def _read_turn(turn: Any) -> Message:
    if not isinstance(turn, Mapping) or not {"role", "content"} <= set(turn):
        raise TypeError("history must be a list of turns, each with role and content")
    return Message(turn["role"], str(turn["content"]))


def _read_squad(data: Mapping[str, Any], documents: dict[str, str]) -> Iterator[Question]:
    """Each paragraph is a document; the evidence is the sentence in which an answer begins."""
    for article in data["data"]:
        title = str(article.get("title", "article"))
        for number, paragraph in enumerate(article["paragraphs"], 1):
            path = f"{_to_path(title)}/{number:04}.txt"
            documents[path] = context = str(paragraph["context"])
            for asked in paragraph["qas"]:
                gold = [] if asked.get("is_impossible") else asked["answers"]
                starts = [int(answer["answer_start"]) for answer in gold]
                yield Question(
                    id=str(asked["id"]),
                    text=str(asked["question"]),
                    kind="answerable" if gold else "impossible",
                    is_answerable=bool(gold),
                    answers=tuple(dict.fromkeys(str(answer["text"]) for answer in gold)),
                    evidence=tuple(_sentence_at(context, start) for start in starts[:1]),
                    docs=(path,) if gold else (),
                )


def _sentence_at(text: str, offset: int) -> str:
    for sentence in segment(text):
        if sentence.start <= offset < sentence.end:
            return text[sentence.start : sentence.end]
    return text


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError("answers must be a list of texts")
    # An empty text is in every answer.
    return tuple(str(text) for text in value if str(text).strip())


def _filled(row: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    return tuple(str(row[key]) for key in keys if row.get(key))


def _to_path(name: str) -> str:
    """A name that is safe as a part of a path, and its own for every name."""
    plain = re.sub(r"[^\w-]+", "_", name).strip("_")[:60]
    if plain == name:
        return name
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def write_documents(documents: Mapping[str, str], folder: Path) -> None:
    """Write a set's own passages as text files below `folder`, ready to be ingested."""
    for name, text in documents.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
