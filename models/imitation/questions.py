"""Questions made from a sentence whose answer is that sentence, with rules and no model."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from models.imitation.sources import words

STOP_WORDS = frozenset(
    (
        "a an and are as at be been but by can could do does for from had has have how i if in into"
        " is it its may me my no not of on or our shall should so such than that the their them"
        " then there these they this to was we were what when where which who why will with would"
        " you your"
    ).split()
)
NUMBER = re.compile(
    r"(?:(?:about|around|at least|at most|up to|within|over|under|every|after|for|by|than)\s+)?"
    r"(?P<sign>[$€£])?(?P<number>\d[\d,.]*\d|\d|(?:two|three|four|five|six|seven|eight|ten|twelve)\b)"
    r"(?P<percent>\s?%| percent)?(?:\s(?P<unit>[a-z]{3,}))?"
)
TIME_UNITS = frozenset(
    "second seconds minute minutes hour hours day days week weeks month months year years".split()
)
YEAR = re.compile(
    r"\b(?:in|on|since|by|until|from)\s(?:[A-Z][a-z]+\s)?(?:\d{1,2},?\s)?(?:1[5-9]|20)\d\d\b"
)
MODAL = re.compile(
    r"^(?P<subject>(?:[A-Z][\w'’-]*)(?:\s[\w'’-]+){0,5}?)\s"
    r"(?P<verb>must not|should not|cannot|must|should|can|may|will|shall"
    r"|is|are|was|were|has|have)\s"
    r"(?P<rest>.+?)[.!]?$"
)
CLAUSE = re.compile(
    r"(?P<main>.+?),?\s"
    r"(?P<word>because|since|so that|in order to|when|if|before|after|until|unless)\s(?P<rest>.+)"
)
OPENING_CLAUSE = re.compile(
    r"^(?P<word>If|When|Before|After|To)\s(?P<rest>[^,]{8,80}),\s(?P<main>.+?)[.!]?$"
)
SELF = {"you": "I", "your": "my", "we": "we", "our": "our", "yourself": "myself"}


def _self(text: str) -> str:
    return " ".join(SELF.get(word.lower(), word) for word in text.split())


def _drop(text: str, rng: random.Random, share: float) -> str:
    return " ".join(word for word in text.split() if rng.random() > share) or text


def _head(text: str, num_words: int) -> str:
    return " ".join(text.split()[:num_words]).rstrip(",;:.")


def lower_first(text: str) -> str:
    """Return `text` with its first letter lowered, unless the first word looks like a name."""
    first = text.split(" ", 1)[0]
    return text if len(first) > 1 and not first[1:].islower() else text[:1].lower() + text[1:]


def ask_number(sentence: str, rng: random.Random) -> str | None:
    """How many, how long, how much: the question lacks the number that the sentence holds."""
    found = [match for match in NUMBER.finditer(sentence) if match.start() > 0]
    if not found:
        return None
    match = rng.choice(found)
    unit = match.group("unit") or ""
    before = " ".join(sentence[: match.start()].split()[-rng.randint(3, 9) :])
    after = _head(sentence[match.end() :], rng.randint(0, 5))
    about = lower_first(f"{before} {after}".strip())
    if match.group("sign"):
        opener = rng.choice(["how much", "what amount", "what is the cost when"])
    elif match.group("percent"):
        opener = rng.choice(["what percentage", "how much", "what share"])
    elif unit in TIME_UNITS:
        openers = ["how long", f"how many {unit}", "how soon", "what is the time limit for"]
        opener = rng.choice(openers)
    elif unit:
        opener = rng.choice([f"how many {unit}", "how many", "what number"])
    else:
        opener = rng.choice(["what number", "how many", "which number"])
    return f"{opener} {_self(about)}"


def ask_year(sentence: str, rng: random.Random) -> str | None:
    """When: the question lacks the year that the sentence holds."""
    match = YEAR.search(sentence)
    if not match:
        return None
    rest = (sentence[: match.start()] + sentence[match.end() :]).strip(" .,")
    return rng.choice(["when", "in which year", "what year"]) + " " + _head(lower_first(rest), 14)


def ask_subject(sentence: str, rng: random.Random) -> str | None:
    """Who or what does it, may do it, is it."""
    match = MODAL.match(sentence)
    if not match:
        return None
    subject, verb, rest = match["subject"], match["verb"], _head(match["rest"], rng.randint(5, 14))
    subject_said = _self(lower_first(subject))
    if verb in ("is", "are", "was", "were"):
        choices = [
            f"what {verb} {subject_said}",
            f"{rng.choice(['who', 'what', 'which'])} {verb} {rest}",
            f"{verb} {subject_said} {_head(rest, 8)}",
            f"tell me about {subject_said}",
            f"what does {subject_said} mean",
        ]
    elif verb in ("has", "have"):
        choices = [
            f"who {verb} {rest}",
            f"what does {subject_said} have",
            f"which one {verb} {rest}",
        ]
    else:
        opener = rng.choice(["do", "am", "are"])
        state = rng.choice(["allowed", "required", "able"])
        choices = [
            f"who {verb} {rest}",
            f"{verb.split()[0]} {subject_said} {rest}",
            f"what {verb.split()[0]} {subject_said} do {' '.join(rest.split()[-4:])}",
            f"{opener} {subject_said} {state} to {rest}",
        ]
    return rng.choice(choices)


def ask_clause(sentence: str, rng: random.Random) -> str | None:
    """Why, when, what happens if."""
    match = OPENING_CLAUSE.match(sentence)
    if match:
        clause, word = _self(match["rest"]), match["word"].lower()
        if word == "to":
            return rng.choice([f"how do I {clause}", f"how can I {clause}", f"how to {clause}"])
        return rng.choice(
            [
                f"what happens {word} {clause}",
                f"what should I do {word} {clause}",
                f"{word} {clause}",
            ]
        )
    match = CLAUSE.match(sentence)
    if not match:
        return None
    word = match["word"]
    main = _self(lower_first(_head(match["main"], 14)))
    if word in ("because", "since", "so that", "in order to"):
        return rng.choice(["why ", "what is the reason that ", "for what reason "]) + main
    return rng.choice(["when ", "in which case ", "under what conditions ", f"{word} what "]) + main


def ask_keywords(sentence: str, rng: random.Random) -> str | None:
    """A few content words in any order, as people type them into a search box."""
    content = [
        word for word in sentence.split() if words(word) and words(word)[0] not in STOP_WORDS
    ]
    if len(content) < 3:
        return None
    kept = rng.sample(content, rng.randint(2, min(6, len(content))))
    if rng.random() < 0.6:
        kept.sort(key=content.index)
    return " ".join(word.strip('.,;:()"') for word in kept)


def ask_cloze(sentence: str, rng: random.Random) -> str | None:
    """A stretch of the sentence with some of its words dropped, behind a question opener."""
    said = sentence.rstrip(".!?:;").split()
    if len(said) < 6:
        return None
    length = rng.randint(4, min(12, len(said)))
    start = rng.randint(0, len(said) - length)
    about = _self(lower_first(_drop(" ".join(said[start : start + length]), rng, 0.2)))
    openers = [
        "what about",
        "what do the documents say about",
        "where does it say",
        "is it true that",
        "tell me about",
        "explain",
        "what is said about",
        "find",
        "how about",
        "which",
        "what",
    ]
    return f"{rng.choice(openers)} {about}"


ASKERS: tuple[tuple[Callable[[str, random.Random], str | None], float], ...] = (
    (ask_number, 3.0),
    (ask_year, 2.0),
    (ask_subject, 2.0),
    (ask_clause, 2.0),
    (ask_keywords, 0.7),
    (ask_cloze, 0.7),
)


def ask(sentence: str, heading: str, rng: random.Random) -> str | None:
    """Return a question that `sentence` answers, or None where the sentence suits no rule."""
    askers = [asker for asker, _ in ASKERS]
    weights = [weight for _, weight in ASKERS]
    for _ in range(3):
        question = rng.choices(askers, weights)[0](sentence, rng)
        if question and len(words(question)) >= 2:
            break
    else:
        return None
    if heading and rng.random() < 0.15:
        question = f"{question} {rng.choice(['for', 'in', 'with', 'about'])} {lower_first(heading)}"
    if rng.random() < 0.7:
        question = question[:1].upper() + question[1:]
        if rng.random() < 0.85:
            question += "?"
    return question


def ask_heading(heading: str, rng: random.Random) -> str:
    """Return a question about a section, which the section's first sentence answers."""
    if heading.endswith("?"):
        return heading
    first = words(heading)[:1]
    if first in (["how"], ["what"], ["when"], ["where"], ["why"], ["who"]):
        return heading + "?"
    said = lower_first(heading)
    if first and first[0].endswith("ing"):
        return rng.choice([f"What about {said}?", f"How does {said} work?", said])
    openers = [
        "What is {}?",
        "Tell me about {}.",
        "What does it say about {}?",
        "{}",
        "Explain {}.",
        "What should I know about {}?",
        "How does {} work?",
        "What are the rules for {}?",
    ]
    return rng.choice(openers).format(said)
