"""Documents to a question set for review: drafted by rules, spread over documents and kinds."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from models.imitation.metrics import contains_answer
from models.text.sentences import segment
from models.text.words import find_topic_words
from server.evaluation.authoring.drafts import Draft, Source
from server.evaluation.authoring.english import clean, is_plain, stands_alone
from server.evaluation.authoring.near_misses import draft_near_misses
from server.evaluation.authoring.rules import word_sentence
from server.evaluation.authoring.structures import (
    draft_headings,
    draft_lists,
    draft_tables,
    draft_terms,
    is_topic,
)

UNANSWERABLE_SHARE = 0.2
# Drafts looked at for one near miss: each is held against every paragraph.
_NUM_TRIED = 32
_NUM_EXAMPLES_OF_A_WORD = 2


def write_questions(
    sources: Sequence[Source],
    num: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _num: None,
) -> list[Draft]:
    """At most `num` drafts, a fifth of them unanswerable; the same ones for the same documents."""
    words = _common_words(sources)
    counts = Counter(_squeeze(s.text) for source in sources for s in segment(source.text))
    drafts: list[Draft] = []
    for done, source in enumerate(sources, 1):
        drafts += (d for d in _draft_source(source, words) if _is_sound(d, counts))
        progress(done, len(sources))
    drafts = _drop_repeated(drafts)
    num_unanswerable = round(num * UNANSWERABLE_SHARE)
    near = [
        d for d in draft_near_misses(drafts, sources, words) if stands_alone(d.wording.question)
    ]
    taken = _spread(_drop_repeated(near), num_unanswerable, seed)
    return _order([*_spread(drafts, num - len(taken), seed), *taken], seed)


def _common_words(sources: Sequence[Source]) -> frozenset[str]:
    """Words that are no names: written small, or large only where a sentence begins."""
    small: Counter[str] = Counter()
    large: Counter[str] = Counter()
    opening: set[str] = set()
    for source in sources:
        for sentence in segment(source.text):
            if sentence.kind not in ("prose", "item"):
                continue
            text = clean(sentence.text)
            small.update(re.findall(r"(?<![\w'./@-])[a-z][a-z'-]+", text))
            large.update(w.lower() for w in re.findall(r"(?<=[\w,;] )[A-Z][\w'-]+", text))
            opening.update(w.lower() for w in re.findall(r"^[A-Z][a-z'-]+", text))
    return frozenset(w for w in small.keys() | opening if small[w] >= large[w])


def _draft_source(source: Source, words: frozenset[str]) -> Iterator[Draft]:
    yield from draft_headings(source, words)
    yield from draft_terms(source)
    yield from draft_lists(source, words)
    yield from draft_tables(source, words)
    for sentence in segment(source.text):
        if sentence.kind not in ("prose", "item"):
            continue
        for wording in word_sentence(clean(sentence.text), words)[:1]:
            heading = re.sub(r"^\d[\d.]*\s+", "", clean(source.heading_at(sentence.start)))
            question = _tell_topic(wording.question, heading)
            yield Draft(
                replace(wording, question=question),
                source.path,
                source.text[sentence.start : sentence.end],
            )


def _tell_topic(question: str, heading: str) -> str:
    """A question of few words of its own says which section it is about."""
    own = set(find_topic_words(question))
    if len(own) >= 3 or not is_topic(heading) or own & set(find_topic_words(heading)):
        return question
    return f"{heading}: {question[:1].lower()}{question[1:]}"


def _is_sound(draft: Draft, counts: Counter[str]) -> bool:
    """Whether the question is plain, does not hold its answer and is answered at one place."""
    wording = draft.wording
    question = wording.question
    if not draft.history and not stands_alone(question.replace("are there", "exist")):
        return False
    if not is_plain(question.replace("“", "").replace("”", "")) or not draft.evidence.strip():
        return False
    if any(contains_answer(question, [answer]) for answer in wording.answers):
        return False
    said = clean(draft.evidence)
    if not all(contains_answer(said, group) for group in wording.all_of or [wording.answers]):
        return False
    return counts[_squeeze(draft.evidence)] <= 1


def _squeeze(text: str) -> str:
    return " ".join(text.split()).strip("| ")


def _drop_repeated(drafts: Iterable[Draft]) -> list[Draft]:
    """One draft for a question, and one for a piece of evidence and kind."""
    kept: dict[object, Draft] = {}
    for draft in sorted(drafts, key=lambda d: d.wording.rank):
        asked = frozenset(find_topic_words(draft.wording.question))
        if draft.history:
            asked |= {draft.history[0]["content"]}
        kept.setdefault(asked, draft)
    return list(kept.values())


def _spread(drafts: Sequence[Draft], num: int, seed: int) -> list[Draft]:
    """Drafts from all documents and of all kinds: the next is always of what was taken least."""
    ranked = sorted(drafts, key=lambda d: (d.wording.rank, _mix(d, seed)))
    by_kind: dict[str, list[Draft]] = defaultdict(list)
    for draft in ranked:
        by_kind[draft.wording.kind].append(draft)
    per_doc: Counter[str] = Counter()
    per_kind: Counter[str] = Counter()
    openings: Counter[str] = Counter()
    subjects: Counter[str] = Counter()
    taken: list[Draft] = []
    while len(taken) < num and any(by_kind.values()):
        kind = min((k for k in sorted(by_kind) if by_kind[k]), key=lambda k: _weigh(k, per_kind[k]))
        pool = by_kind[kind]
        best = min(
            pool,
            key=lambda d: (
                2 * per_doc[d.doc or d.near_doc]
                + d.wording.rank
                + openings[_opening(d)] / 4
                + 4 * subjects[d.wording.subject],
                _mix(d, seed),
            ),
        )
        pool.remove(best)
        per_kind[kind] += 1
        per_doc[best.doc or best.near_doc] += 1
        openings[_opening(best)] += 1
        subjects[best.wording.subject] += bool(best.wording.subject)
        taken.append(best)
    return taken


def _weigh(kind: str, num_taken: int) -> float:
    """Headings and follow-ups are the weaker drafts: fewer than of the other kinds."""
    return num_taken * {"heading": 2.0, "follow-up": 3.0}.get(kind, 1.0)


def _opening(draft: Draft) -> str:
    return " ".join(draft.wording.question.split()[:_NUM_EXAMPLES_OF_A_WORD])


def _order(drafts: Sequence[Draft], seed: int) -> list[Draft]:
    """By document, so that a reviewer opens each once."""
    return sorted(drafts, key=lambda d: (d.doc or d.near_doc, not d.doc, _mix(d, seed)))


def _mix(draft: Draft, seed: int) -> str:
    text = f"{seed}:{draft.doc}:{draft.wording.question}"
    return hashlib.sha256(text.encode()).hexdigest()
