"""Follow-up and many-part questions to what is searched for, by rules or by a strong model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from models.protocols import Engine, Message, SamplingSettings
from models.text.words import find_topic_words, find_words, match_stem, stem

# Words that point back at an earlier turn.
_POINTING = re.compile(
    r"\b(?:it|its|that|this|these|those|they|them|their|he|him|his|she|her|hers|there|then|"
    r"one|ones|same|so|mine|else|instead|former|latter)\b"
    r"|^\s*(?:and|but|or|also|what about|how about|why|really)\b",
    re.IGNORECASE,
)
# A question with fewer topic words than this has no topic of its own; one with no more than the
# second number may still lean on the turn before.
_MIN_TOPIC_WORDS = 3
_MAX_LEANING_WORDS = 5
_MAX_CARRIED_CHARS = 400
_MAX_TURNS_BACK = 3
# Names, abbreviations, numbers and identifiers: capitals inside a sentence, or marks inside a word.
_ENTITY = re.compile(
    r"(?<=[\w,;:(\"'] )[^\W\d_a-z][\w'-]+(?: [^\W\d_a-z][\w'-]+)*"
    r"|\b[^\W\d_a-z]{2,}\w*\b|\b\w+(?:[._/-]\w+)+\b"
)
_MAX_ENTITIES = 6
# Where a second question begins: behind a question mark, or at a question word after "and".
_ASKING = (
    r"(?:how|what|when|where|which|who|whom|whose|why|can|could|do|does|did|is|are|may|must|"
    r"should|will|(?:by|from|to|in|on|at|for|until|since|with|of) "
    r"(?:when|what|which|whom|where|how))"
)
_SECOND = re.compile(
    rf"(?<=[?？])\s+(?=\S)|\s*[,;]?\s+(?:and|or|but)(?: also| if so,?)?,?\s+(?={_ASKING}\b)"
    rf"|\s*;\s+(?={_ASKING}\b)",
    re.IGNORECASE,
)
_MIN_PART_WORDS = 2
_MAX_PARTS = 4
_MAX_REWRITTEN_CHARS = 400
_REWRITE = (
    "Rewrite the user's last question as one stand-alone question that can be understood without "
    "the conversation. Put in names and things that it refers to. Keep its language, and all its "
    "words and numbers that matter. Reply with the question alone."
)


@dataclass(frozen=True, slots=True)
class SearchPart:
    """One search: the words asked now, and those of other turns or parts that count for less."""

    text: str
    context: str = ""


def plan_searches(question: str, earlier: Sequence[Message]) -> tuple[SearchPart, ...]:
    """The searches that answer a question asked after the turns `earlier`.

    The first one has all words of the question. Where it has several parts, one follows for each,
    with what the whole question names as its context.
    """
    carried = carry(question, earlier)
    whole = SearchPart(question, carried)
    parts = split_question(question)
    if len(parts) < 2:
        return (whole,)
    return (whole, *(SearchPart(part, _join(carried, question, part)) for part in parts))


def carry(question: str, earlier: Sequence[Message]) -> str:
    """What a follow-up question leaves unsaid; empty where it stands alone.

    The user turn before and, while that one leans on another, the one before it, oldest first;
    then the names in the answer between. A question that has a topic of its own and shares none
    with those turns has changed the subject, and takes nothing along.
    """
    asked = [(i, m.content) for i, m in enumerate(earlier) if m.role == "user"]
    if not asked or not leans_on(question, asked[-1][1]):
        return ""
    turns: list[str] = []
    for i, text in reversed(asked[-_MAX_TURNS_BACK:]):
        turns.insert(0, text.strip()[-_MAX_CARRIED_CHARS:])
        if i == asked[0][0] or not points_back(text):
            break
    answers = [m.content for m in earlier[asked[-1][0] :] if m.role == "assistant"]
    known = {word for text in (question, *turns) for word in find_topic_words(text)}
    names = [name for text in answers for name in find_entities(text)]
    new = [name for name in names if not known.issuperset(find_topic_words(name))]
    return " ".join([*turns, *dict.fromkeys(new[:_MAX_ENTITIES])])


def points_back(question: str) -> bool:
    """Whether a question needs the turn before it to be understood."""
    return (
        len(set(find_topic_words(question))) < _MIN_TOPIC_WORDS
        or _POINTING.search(question) is not None
    )


def leans_on(question: str, former: str) -> bool:
    """Whether a question takes up the turn before: it points back, or is short and on its topic."""
    if points_back(question):
        return True
    own = set(find_topic_words(question))
    if len(own) > _MAX_LEANING_WORDS:
        return False
    return any(match_stem(word, other) for word in own for other in find_topic_words(former))


def find_entities(text: str) -> list[str]:
    """Names, abbreviations and identifiers in a text, each once, in order."""
    return list(dict.fromkeys(match.group() for match in _ENTITY.finditer(text)))


def split_question(text: str) -> list[str]:
    """The questions that a turn asks, in order; one alone where it does not come apart.

    Every word of the turn is in one of them but the "and" between. A piece without two topic words
    of its own stays with its neighbour.
    """
    parts: list[str] = []
    for piece in _cut(text):
        is_small = len(set(find_topic_words(piece))) < _MIN_PART_WORDS
        if parts and (is_small or len(set(find_topic_words(parts[-1]))) < _MIN_PART_WORDS):
            parts[-1] = f"{parts[-1]} {piece}"
        else:
            parts.append(piece)
    return parts if len(parts) <= _MAX_PARTS else [" ".join(text.split())]


def _cut(text: str) -> list[str]:
    return [" ".join(piece.split()) for piece in _SECOND.split(text) if piece and piece.strip()]


def _join(carried: str, question: str, part: str) -> str:
    """Carried words and those words of the whole question that the part does not have."""
    own = {stem(word) for word in find_words(part)}
    rest = [word for word in question.split() if not own.issuperset(find_topic_words(word))]
    return " ".join([carried, *rest]).strip()


async def rewrite_searches(
    engine: Engine, searches: Sequence[SearchPart], messages: Sequence[Message]
) -> tuple[SearchPart, ...]:
    """The searches with a follow-up put by the model for a reader who has not seen the rest.

    A question that stands alone is left as it is, and what the model says is only searched for:
    the question's own words stay beside it as context. Where it gives no line of a question's
    length, the rules' searches stay. Raises what `Engine.generate` raises.
    """
    whole = searches[0]
    if not whole.context:
        return tuple(searches)
    turns = [m for m in messages if m.role in ("user", "assistant")][-2 * _MAX_TURNS_BACK :]
    shown = "\n".join(f"{m.role}: {' '.join(m.content.split())[:600]}" for m in turns)
    prompt = engine.prepare([Message("system", _REWRITE), Message("user", shown)])
    generation = engine.generate(prompt, SamplingSettings(max_tokens=96, stop=("\n",)))
    text = ""
    try:
        async for delta in generation:
            text += delta.text
    finally:
        generation.cancel()
    rewritten = " ".join(text.split()).strip("\"' ")
    if not find_topic_words(rewritten) or len(rewritten) > _MAX_REWRITTEN_CHARS:
        return tuple(searches)
    return (SearchPart(rewritten, whole.text), *searches[1:])
