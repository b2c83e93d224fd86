"""One sentence to the questions that it answers, each with the part that is the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from server.evaluation.authoring.amounts import (
    MOMENT,
    SUBJECT,
    Words,
    ask_amount,
    ask_deadline,
    ask_measure,
    ask_when,
)
from server.evaluation.authoring.drafts import Wording
from server.evaluation.authoring.english import (
    IMPERATIVES,
    first_clause,
    is_plain,
    is_subject,
    lower_first,
    third_person,
    to_asker,
)

Rule = Callable[[str, Words], Iterator[Wording]]

_PLACED = (
    r"(?P<done>kept|stored|located|found|held|parked|filed|displayed|published|documented|recorded"
    r"|listed|posted|hosted|archived|described)"
)
_ROLE = (
    r"(?:manager|team|lead|leader|officer|department|board|director|adviser|advisor|owner|committee"
    r"|engineer|head|supervisor|administrator|editor|group|council|desk|chair|chief|partner)s?"
)
_PERSON = (
    rf"(?:(?:the|our|your|a|an)\s(?:[\w'-]+\s){{0,4}}{_ROLE}|[A-ZÀ-Ž][\w'-]+(?:\s[A-ZÀ-Ž][\w'-]+){{1,3}}"
    rf"(?:\s{_ROLE})?|[A-Z][\w'-]+\s{_ROLE})"
)
_ACTS = "approve|decide on|sign|check|maintain|own|lead|chair|manage|review|organise|organize|audit"
_ACTING = {third_person(verb.split()[0]): verb.split()[0] for verb in _ACTS.split("|")}


def word_sentence(sentence: str, words: Words) -> list[Wording]:
    """The questions that a cleaned sentence answers, its best first.

    `words` are those that the documents write in small letters, by which names are told apart.
    """
    said = sentence.strip().rstrip(".!").strip()
    found: list[Wording] = []
    if not 4 <= len(said.split()) <= 45:
        return found
    for rule in RULES:
        found += rule(said, words)
    return sorted(found, key=lambda wording: wording.rank)


def _ask_who(said: str, words: Words) -> Iterator[Wording]:
    """`The boiler is checked by Ada Quist`, `The site manager approves the visit`."""
    match = re.match(
        rf"(?P<who>{_PERSON}(?:,[^,]{{3,60}},)?)\s(?:is|are)\sresponsible\sfor\s(?P<what>.+)$",
        said, re.IGNORECASE if said[:4].lower() in ("the ", "your", "our ") else 0,
    )  # fmt: skip
    if match is not None:
        what = first_clause(match["what"], 14)
        name = match["who"].split(",")[0]
        if what and is_plain(what):
            yield Wording(
                f"Who is responsible for {to_asker(what)}?", _persons(name), "who", what, rank=0
            )
    acts = "|".join(_ACTING)
    match = re.match(
        rf"(?P<who>(?:The|Our|Your)\s(?:[\w'-]+\s){{0,3}}{_ROLE}|{_PERSON})\s(?P<verb>{acts})"
        rf"\s(?P<what>.+)$",
        said,
    )
    if match is not None and (what := first_clause(match["what"], 10)):
        yield Wording(
            f"Who {match['verb']} {to_asker(what)}?", _persons(match["who"]), "who", what, rank=0
        )
    match = re.match(
        rf"{SUBJECT}\s(?P<aux>is|are|was|were|must be|should be|can be|may be|will be)\s"
        rf"(?P<done>(?:[\w-]+\s)?[\w-]+(?:ed|en|wn|ept|ade|ead|ven))\sby\s(?P<who>{_PERSON})\b",
        said,
    )
    if match is not None and is_subject(match["subject"]):
        subject = to_asker(lower_first(match["subject"], words))
        first, _, more = match["aux"].partition(" ")
        done = f"{more} {match['done']}".strip()
        yield Wording(
            f"Who {first} {subject} {done} by?", _persons(match["who"]), "who", subject, rank=0
        )


def _ask_where(said: str, words: Words) -> Iterator[Wording]:
    """`The keys are kept in the gatehouse`."""
    match = re.match(
        rf"{SUBJECT}\s(?P<aux>is|are|must be|should be|can be)\s(?:[a-z]+ly\s|also\s)?{_PLACED}\s"
        r"(?P<place>(?:in|at|on|under|behind|near|with|outside|beside)\s.+)$",
        said,
    )
    if match is None or not is_subject(match["subject"]):
        return
    place = first_clause(match["place"], 9)
    if not place or re.match(rf"\w+\s{MOMENT}", place) or re.match(r"on (?:request|time)", place):
        return
    subject = to_asker(lower_first(match["subject"], words))
    first, _, more = match["aux"].partition(" ")
    more = f"{more} " if more else ""
    yield Wording(
        f"Where {first} {subject} {more}{match['done']}?",
        (place.partition(" ")[2],), "fact", subject, rank=0,
    )  # fmt: skip


def _ask_definition(said: str, words: Words) -> Iterator[Wording]:
    """`A concession is a permission to …`, `DMR stands for …`."""
    match = re.match(
        rf"{SUBJECT}\s(?P<verb>means|stands for|is short for|is an?|is the|are the)"
        r"\s(?P<what>.+)$",
        said,
    )
    if match is None or not is_subject(match["subject"]):
        return
    if len(match["subject"].split()) > 5 or re.match(
        rf"(?:A|An) (?:few|lot)|{MOMENT}$", match["subject"]
    ):
        return
    subject = to_asker(lower_first(match["subject"], words))
    what = first_clause(match["what"], 16)
    if not what:
        return
    verb = match["verb"]
    if verb in ("means", "stands for", "is short for"):
        asked = {"means": "mean"}.get(verb, "stand for")
        yield Wording(f"What does {subject} {asked}?", (what,), "definition", subject, rank=0)
    elif len(what.split()) > 2:
        yield Wording(
            f"What {'are' if verb.startswith('are') else 'is'} {subject}?",
            (what,), "definition", subject,
        )  # fmt: skip


def _ask_condition(said: str, words: Words) -> Iterator[Wording]:
    """`If you lose your badge, tell the gatehouse`, `To book a room, write to …`."""
    match = re.match(r"(?P<word>If|When|To)\s(?P<clause>[^,;:]{8,90}),\s(?P<main>.+)$", said)
    if match is None or not is_plain(match["clause"]):
        return
    clause = to_asker(match["clause"])
    main = re.sub(r"^(?:then|please)\s", "", match["main"])
    answer = first_clause(main, 25)
    if len(answer.split()) < 3:
        return
    is_order = main.split()[0].lower() in IMPERATIVES or main.lower().startswith(
        ("you should", "you must", "you need")
    )
    if match["word"] == "To":
        if clause.split()[0].islower() and (is_order or main.startswith("you")):
            yield Wording(f"How do I {clause}?", (answer,), "howto")
        return
    word = match["word"].lower()
    if is_order and clause.startswith("I "):
        yield Wording(f"What should I do {word} {clause}?", (answer,), "howto")
    elif is_order:
        yield Wording(f"What should be done {word} {clause}?", (answer,), "howto", rank=2)
    else:
        yield Wording(f"What happens {word} {clause}?", (answer,), "fact", rank=2)


RULES: tuple[Rule, ...] = (
    ask_amount,
    ask_measure,
    ask_deadline,
    ask_when,
    _ask_who,
    _ask_where,
    _ask_definition,
    _ask_condition,
)


def _persons(name: str) -> tuple[str, ...]:
    """The person as named, with and without an article."""
    bare = re.sub(r"^(?:the|our|your|an?)\s", "", name.strip(), flags=re.IGNORECASE)
    return (bare,)
