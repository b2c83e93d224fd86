"""Questions that sound as if the documents answered them, and that they most likely do not."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from models.text.sentences import segment
from models.text.words import find_topic_words
from server.evaluation.authoring.drafts import Draft, Source, Wording
from server.evaluation.authoring.english import clean

# What may be asked of anything, and the words by which a passage would tell it.
_ASPECTS = (
    (
        "Who is responsible for {}?",
        "responsible owner owns owned lead leads charge manages manager",
    ),
    ("When {be} {} introduced?", "introduced since founded launched began started created first"),
)
_PERSON = re.compile(r"\b(?:\w+(?:er|or|ee|ist)s?|parents?|people|staff|team|panel|board|buddy)$")
# Names behind one of these are of one kind: places, people, dates of the year.
_BEFORE_NAMES = frozenset("in at by with to from for near of".split())
_NAME = re.compile(r"(?<=[\w,;'] )[A-Z][\w'-]{2,}(?: [A-Z][\w'-]+)*")
_NO_NAMES = frozenset(
    "January February March April May June July August September October November December Monday"
    " Tuesday Wednesday Thursday Friday Saturday Sunday Mondays Tuesdays Wednesdays Thursdays"
    " Fridays Christmas Easter Midsummer English I".split()
)


class Passages:
    """The topic words of every paragraph of the documents, for telling what they do not hold."""

    def __init__(self, sources: Sequence[Source], words: frozenset[str]) -> None:
        """`words` are those that the documents write in small letters: no names."""
        self._stems: list[frozenset[str]] = []
        self._words: list[frozenset[str]] = []
        self.names: dict[str, set[str]] = defaultdict(set)
        for source in sources:
            for paragraph in re.split(r"\n\s*\n", source.text):
                self._stems.append(frozenset(find_topic_words(f"{source.title} {paragraph}")))
                self._words.append(frozenset(re.findall(r"[\w£$€]+", paragraph.lower())))
            for sentence in segment(source.text):
                if sentence.kind != "prose":
                    continue
                for match in _NAME.finditer(clean(sentence.text)):
                    before = match.string[: match.start()].split()[-1].lower()
                    if before in _BEFORE_NAMES and match.group().lower() not in words:
                        self.names[match.group()].add(before)

    def hold(self, question: str, name: str) -> bool:
        """Whether one paragraph names it and has half of the question's other topic words."""
        named = set(find_topic_words(name))
        asked = set(find_topic_words(question)) - named
        return any(
            named <= stems and len(asked & stems) >= 0.5 * len(asked) for stems in self._stems
        )

    def tell(self, subject: str, signs: str) -> bool:
        """Whether one paragraph speaks of the subject and has one of the signs."""
        asked, wanted = set(find_topic_words(subject)), set(signs.split())
        return any(
            asked <= stems and wanted & words
            for stems, words in zip(self._stems, self._words, strict=True)
        )


def draft_near_misses(
    drafts: Sequence[Draft], sources: Sequence[Source], words: frozenset[str]
) -> Iterator[Draft]:
    """Answerable drafts with another name put in, and their subjects asked for something else."""
    passages = Passages(sources, words)
    for draft in drafts:
        yield from _swap_names(draft, passages)
        yield from _ask_aspects(draft, passages)


def _swap_names(draft: Draft, passages: Passages) -> Iterator[Draft]:
    """The same question about another name, one that stands in the same kind of place."""
    question = draft.wording.question
    if draft.history or draft.wording.kind in ("heading", "definition", "table"):
        return
    for match in _NAME.finditer(question):
        name, before = match.group(), question[: match.start()].split()[-1].lower()
        if name in _NO_NAMES or name not in passages.names or before not in _BEFORE_NAMES:
            continue
        if len(set(find_topic_words(question)) - set(find_topic_words(name))) < 2:
            continue
        for other in sorted(passages.names):
            is_alike = (
                before in passages.names[other] and passages.names[name] & passages.names[other]
            )
            if other in question or name in other or other in _NO_NAMES or not is_alike:
                continue
            if len(other.split()) != len(name.split()):
                continue
            asked = question[: match.start()] + other + question[match.end() :]
            if not passages.hold(asked, other):
                yield _unanswerable(draft, asked)
                break


def _ask_aspects(draft: Draft, passages: Passages) -> Iterator[Draft]:
    subject = draft.wording.subject
    first, *rest = subject.split() or [""]
    if (
        draft.wording.kind not in ("number", "fact", "date", "definition")
        or not 1 <= len(rest) <= 4
    ):
        return
    if first not in ("the", "a", "an", "my", "our") or _PERSON.search(subject):
        return
    is_plural = rest[-1].endswith("s") and not rest[-1].endswith("ss")
    for frame, signs in _ASPECTS:
        if not passages.tell(subject, signs):
            asked = frame.format(subject, be="were" if is_plural else "was")
            yield _unanswerable(draft, asked)


def _unanswerable(draft: Draft, question: str) -> Draft:
    wording = Wording(question, (), "unanswerable", draft.wording.subject)
    return replace(draft, wording=wording, evidence="", doc="", near_doc=draft.doc, history=())
