"""Source material as examples: passages with questions whose answers stand in them verbatim."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from models.imitation.questions import ask, ask_heading
from models.imitation.sources import (
    Decontaminator,
    Passage,
    passages_of,
    sections_of,
    split_sentences,
    words,
)

# Sources whose answers do not stand in the text, or whose rights are not clear enough to ship.
LEFT_OUT = (
    "cosmos_qa",
    "ropes",
    "quartz",
    "qasc",
    "pubmedqa",
    "fetaqa",
    "qmsum",
    "mtrag",
    "wiki_hop",
)


@dataclass(frozen=True)
class Question:
    """A question and the sentences that answer it; no sentences: the passages do not."""

    text: str
    gold: tuple[str, ...]
    passage: int  # index of the passage that holds the gold sentences, -1 when none does


@dataclass(frozen=True)
class Example:
    """Passages with questions on them; `questions` point into `passages`."""

    source: str
    group: str  # examples of one group share text: a group is wholly trained on or held out
    passages: tuple[Passage, ...]
    questions: tuple[Question, ...] = field(default=())


def is_held_out(group: str, share: float) -> bool:
    """Tell from a hash of the name whether `group` belongs to the held-out `share`."""
    digest = hashlib.sha256(group.encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


def gold_sentences(text: str, answer_sentence: str) -> tuple[str, ...]:
    """Return the whole sentences of `text` that `answer_sentence` covers, at most three."""
    start = text.find(answer_sentence)
    if start < 0:
        return ()
    end = start + len(answer_sentence)
    found = []
    position = 0
    for sentence in split_sentences(text):
        position = text.index(sentence, position)
        stop = position + len(sentence)
        shared = min(stop, end) - max(position, start)
        if shared > 0.5 * len(sentence) or shared > 0.5 * len(answer_sentence):
            found.append(sentence)
        position = stop
    return tuple(found) if len(found) <= 3 else ()


def qa_examples(rows: Iterable[dict[str, Any]], guard: Decontaminator) -> list[Example]:
    """Return one example for each usable qa row: its passages, gold first, and its question."""
    found = []
    for row in rows:
        if row["source"].startswith(LEFT_OUT) or not row["answerable"] or row.get("history"):
            continue
        sentence = row.get("answer_sentence")
        if (
            not sentence
            or row.get("sentence_parts")
            or len(row["gold"]) != 1
            or row.get("reasoning")
        ):
            continue
        passages = [Passage(item["title"], item["text"].strip()) for item in row["passages"]]
        passages.insert(0, passages.pop(row["gold"][0]))
        gold = gold_sentences(passages[0].text, sentence)
        if not gold or sum(map(len, gold)) > 600 or len(row["question"]) > 300:
            continue
        if guard.hits_question(row["question"]) or any(guard.hits(p.text) for p in passages):
            continue
        question = Question(row["question"].strip(), gold, 0)
        group = f"{row['source']}/{passages[0].title}"
        found.append(Example(row["source"], group, tuple(passages), (question,)))
    return found


def locate(question: Question, gold_text: str, passages: list[Passage]) -> Question:
    """Return `question` with the index of its gold passage among `passages`, or unanswerable."""
    for index, passage in enumerate(passages):
        is_holder = passage.text == gold_text or question.gold[0] in passage.text
        if is_holder and all(sentence in passage.text for sentence in question.gold):
            return replace(question, passage=index)
    return replace(question, gold=(), passage=-1)


def document_examples(
    document: dict[str, Any], guard: Decontaminator, rng: random.Random, max_passages: int
) -> list[Example]:
    """Return examples made from one corpus document with generated questions."""
    text = document["text"][:40_000]
    if guard.hits(text):
        return []
    group = f"{document['source']}/{document['path']}"
    stem = document["path"].rsplit("/", 1)[-1]
    name = rng.choice(
        [stem, document["title"], stem.split(".")[0] + rng.choice([".pdf", ".docx", ".md"])]
    )
    sections = [s for s in sections_of(text, document["title"]) if len(s.text) > 60][:30]
    pool = []
    for section in sections:
        for place, passage in enumerate(passages_of(section, name, rng.choice([400, 800, 800]))):
            if is_prose(passage.text):
                pool.append((section, place, passage))
    found = []
    start = 0
    while start < len(pool):
        size = rng.randint(1, max_passages)
        part = pool[start : start + size]
        outside = [item for item in pool if item not in part]
        start += size
        shown = [passage for _, _, passage in part]
        rng.shuffle(shown)
        questions = []
        for section, place, passage in part + (rng.sample(outside, 1) if outside else []):
            for _ in range(2 if size > 2 else 3):
                question = _generate(section, place, passage, rng)
                if question:
                    questions.append(locate(question, passage.text, shown))
        rng.shuffle(questions)
        if questions:
            found.append(Example(document["source"], group, tuple(shown), tuple(questions[:6])))
    return found


def is_prose(text: str) -> bool:
    """Tell whether a passage is sentences rather than a table, a list of links or markup."""
    letters = sum(char.isalpha() or char == " " for char in text)
    return letters > 0.8 * len(text) and "|" not in text and len(words(text)) > 15


def _generate(section: Any, place: int, passage: Passage, rng: random.Random) -> Question | None:
    sentences = split_sentences(passage.text)
    heading = section.headings[-1]
    if place == 0 and rng.random() < 0.15 and len(sentences[0]) > 40:
        return Question(ask_heading(heading, rng), (sentences[0],), 0)
    usable = [s for s in sentences if 30 < len(s) < 350 and s.rstrip("\"')]")[-1:] in ".!:;"]
    if not usable:
        return None
    sentence = rng.choice(usable)
    text = ask(sentence, heading, rng)
    return Question(text, (sentence,), 0) if text else None
