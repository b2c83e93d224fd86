"""One sentence to the questions that it answers, each with the part that is the answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from server.evaluation.authoring.drafts import Wording
from server.evaluation.authoring.english import (
    first_clause,
    is_plain,
    is_subject,
    lower_first,
    third_person,
    to_asker,
)

Words = frozenset[str]
Rule = Callable[[str, Words], Iterator[Wording]]

_NUMERAL = (
    r"(?:(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty"
    r"|forty|fifty|sixty|ninety)(?:\s(?:hundred|thousand))?|\d[\d.,]*(?:\s?(?:to|–|-)\s?\d[\d.,]*)?)"
)
_MONEY = r"(?:[$€£]\s?\d[\d.,]*(?:\s(?:million|thousand))?|\d[\d.,]*\s(?:euros?|pounds?|dollars?))"
_ABOUT = r"(?:about|around|at least|at most|up to|no more than|a maximum of|a minimum of|only)"
_TIME_UNIT = (
    r"(?:(?:working|business|calendar)\s)?(?:seconds?|minutes?|hours?|days?|weeks?|months?|years?)"
)
_QUANTITY = rf"(?:{_ABOUT}\s)?(?:{_MONEY}|{_NUMERAL}(?:\s?%|\sper\scent)?)"
_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
)
_DAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MOMENT = (
    rf"(?:\d{{1,2}}[:.]\d\d(?:\s?[ap]m)?(?:\sto\s\d{{1,2}}[:.]\d\d)?|\d{{1,2}}\s?[ap]m|noon|midnight"
    rf"|(?:the\s)?(?:\d{{1,2}}(?:st|nd|rd|th)?\s)?{_MONTH}(?:\s\d{{1,2}}(?:st|nd|rd|th)?)?"
    rf"(?:,?\s\d{{4}})?|(?:19|20)\d\d|(?:every\s|the\s(?:first|second|third|last)\s)?{_DAY}s?)"
)
_SUBJECT = r"(?P<subject>[A-ZÀ-Þ][\w'’-]*(?:\s[\w'’&-]+){0,7}?)"
_BE = r"(?P<be>is|are|was|were)"
_MODAL = r"(?P<modal>must|should|can|may|will|shall)"
_VERBS = (
    "take cost last receive get need require hold contain have cover pay earn give allow include"
    " weigh measure reach open close start begin end expire run meet arrive lapse keep use support"
    " employ make serve carry produce store provide offer".split()
)
_THIRD = {third_person(verb): verb for verb in _VERBS}
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
_IMPERATIVES = frozenset(
    "tell call ask contact report send use write give inform notify speak talk go open close check"
    " make fill leave stop keep put take add create run read follow submit email raise post move"
    " remove set turn press book bring hand return let ensure click see reach file log move visit"
    " complete sign enter choose pick wear wash telephone phone do don't".split()
)


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


def _ask_amount(said: str, words: Words) -> Iterator[Wording]:
    """`The second parent receives seven weeks of leave`."""
    verbs = "|".join([*_THIRD, *_VERBS])
    match = re.match(
        rf"{_SUBJECT}\s(?:(?P<modal>can|may|must|should|will)\s)?(?P<verb>{verbs})\s"
        rf"(?P<about>{_ABOUT}\s)?(?P<number>{_MONEY}|{_NUMERAL})"
        rf"(?P<percent>\s?%|\sper\scent)?(?P<unit>\s{_TIME_UNIT}|\s[a-z-]+s)?(?P<rest>\s.*)?$",
        said,
    )
    if match is None:
        return
    verb, modal = match["verb"], match["modal"]
    is_you = match["subject"] in ("You", "We")
    if not is_you and not is_subject(match["subject"]):
        return
    subject = to_asker(lower_first(match["subject"], words)) if not is_you else match["subject"]
    subject = {"You": "I", "We": "we"}.get(subject, subject)
    base = _THIRD.get(verb, verb)
    auxiliary = modal or ("does" if verb in _THIRD else "do")
    unit, number = (match["unit"] or "").strip(), match["number"].strip()
    limit = {"at least": " at least", "up to": " at most", "at most": " at most"}
    bound = limit.get((match["about"] or "").strip(), "")
    is_money = re.fullmatch(_MONEY, number) is not None
    answers = _vary(number + (match["percent"] or ""), unit)
    if base == "cost" and is_money:
        yield Wording(f"How much {auxiliary} {subject} cost?", answers, "number", subject, rank=0)
    elif base in ("take", "last") and re.fullmatch(_TIME_UNIT, unit):
        yield Wording(
            f"How long {auxiliary} {subject} {base}{bound}?", answers, "number", subject, rank=0
        )
    elif unit and not is_money and not match["percent"]:
        behind = (match["rest"] or "").strip()
        if re.match(r"(?:and|or|but|then|before|after|when|if|until|while)\b|[,;(–—-]", behind):
            behind = ""
        rest = first_clause(behind, 7)
        if behind and not re.match(r"(?:of|for|in|at|per|a|an|each|every|on|with)\b", rest):
            return
        about = f" {to_asker(rest)}" if rest else ""
        yield Wording(
            f"How many {unit}{about} {auxiliary} {subject} {base}{bound}?",
            answers, "number", subject,
        )  # fmt: skip
    elif is_money and base in ("pay", "earn", "receive", "get"):
        yield Wording(f"How much {auxiliary} {subject} {base}{bound}?", answers, "number", subject)


def _ask_measure(said: str, words: Words) -> Iterator[Wording]:
    """`The probation period is six months`."""
    match = re.match(
        rf"{_SUBJECT}\s{_BE}\s(?P<number>{_QUANTITY})(?P<unit>\s{_TIME_UNIT}|\s[a-z]+)?(?P<rest>.*)$",
        said,
    )
    if match is None or not is_subject(match["subject"]):
        return
    subject = to_asker(lower_first(match["subject"], words))
    number, unit = match["number"], (match["unit"] or "").strip()
    rest = match["rest"].strip()
    if re.match(r"(?:of|or)\b", unit) or re.match(r"(?:of|old)\b", rest):
        return
    if not re.fullmatch(_TIME_UNIT, unit) and not unit.endswith("s"):
        unit = ""
    if re.search(_MONEY, number):
        question = f"How much {match['be']} {subject}?"
    elif re.fullmatch(_TIME_UNIT, unit):
        question = f"How long {match['be']} {subject}?"
    else:
        question = f"What {match['be']} {subject}?"
    yield Wording(question, _vary(number, unit), "number", subject, rank=0)


def _ask_deadline(said: str, words: Words) -> Iterator[Wording]:
    """`Expenses must be claimed within 30 days of the trip`."""
    match = re.match(
        rf"{_SUBJECT}\s(?P<aux>must|should|can|may|will|is|are)\s(?P<done>[\w\s-]{{3,60}}?)\swithin\s"
        rf"(?P<number>{_NUMERAL}\s{_TIME_UNIT})(?P<rest>\s(?:of|after|from)\s[\w\s'-]+)?\b",
        said,
    )
    if match is None:
        return
    subject = {"You": "I", "We": "we"}.get(match["subject"])
    if subject is None:
        if not is_subject(match["subject"]):
            return
        subject = to_asker(lower_first(match["subject"], words))
    rest = re.sub(r"^\sof\b", " after", match["rest"] or "")
    if len(rest.split()) > 8:
        return
    question = f"How soon {match['aux']} {subject} {to_asker(match['done'] + rest)}?"
    number, unit = match["number"].split(" ", 1)
    yield Wording(question, _vary(number, unit), "number", subject, rank=0)


def _ask_when(said: str, words: Words) -> Iterator[Wording]:
    """`The canteen opens at 11:30`, `Reports must be sent by 15 March`."""
    verbs = "open|close|start|begin|end|expire|meet|run|arrive|happen|take place"
    third = "|".join(third_person(verb) for verb in verbs.split("|")[:-1]) + "|takes place"
    match = re.match(
        rf"{_SUBJECT}\s(?:(?P<verb>{third}|{verbs})|(?P<aux>is|are|was|were|must be|should be|will be)"
        rf"\s(?P<done>(?:[\w-]+\s){{0,3}}?[\w-]+(?:ed|en|t|ld|wn|de|id)))"
        rf"\s(?:(?P<by>by|before|until|since)|at|on|in|from|every)\s(?P<moment>{_MOMENT})(?P<rest>.*)$",
        said,
    )
    if match is None or not is_subject(match["subject"]):
        return
    subject = to_asker(lower_first(match["subject"], words))
    opener = {"by": "By when", "before": "Before when", "until": "Until when"}.get(
        match["by"] or "", "Since when" if match["by"] == "since" else "When"
    )
    rest = match["rest"].strip()
    if re.match(r"(?:and|or|to|-|–|\d)", rest):
        return
    moment = match["moment"]
    if match["verb"]:
        verb = match["verb"]
        is_third = re.fullmatch(third, verb) is not None
        base = next(v for v in verbs.split("|") if verb in (v, third_person(v), "takes place"))
        base = "take place" if verb == "takes place" else base
        question = f"{opener} {'does' if is_third else 'do'} {subject} {base}?"
    else:
        first, _, more = match["aux"].partition(" ")
        more = f"{more} " if more else ""
        question = f"{opener} {first} {subject} {more}{to_asker(match['done'])}?"
    yield Wording(question, (moment,), "date", subject, rank=0)


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
        rf"{_SUBJECT}\s(?P<aux>is|are|was|were|must be|should be|can be|may be|will be)\s"
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
        rf"{_SUBJECT}\s(?P<aux>is|are|must be|should be|can be)\s(?:[a-z]+ly\s|also\s)?{_PLACED}\s"
        r"(?P<place>(?:in|at|on|under|behind|near|with|outside|beside)\s.+)$",
        said,
    )
    if match is None or not is_subject(match["subject"]):
        return
    place = first_clause(match["place"], 9)
    if not place or re.match(rf"\w+\s{_MOMENT}", place) or re.match(r"on (?:request|time)", place):
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
        rf"{_SUBJECT}\s(?P<verb>means|stands for|is short for|is an?|is the|are the)\s(?P<what>.+)$",
        said,
    )
    if match is None or not is_subject(match["subject"]):
        return
    if len(match["subject"].split()) > 5 or re.match(
        rf"(?:A|An) (?:few|lot)|{_MOMENT}$", match["subject"]
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
    is_order = main.split()[0].lower() in _IMPERATIVES or main.lower().startswith(
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
    _ask_amount,
    _ask_measure,
    _ask_deadline,
    _ask_when,
    _ask_who,
    _ask_where,
    _ask_definition,
    _ask_condition,
)


def _vary(number: str, unit: str) -> tuple[str, ...]:
    """The number as it stands, with its unit and alone."""
    bare = re.sub(rf"^{_ABOUT}\s", "", number.strip()).rstrip(".,")
    return tuple(dict.fromkeys(filter(None, (f"{bare} {unit}".strip(), bare))))


def _persons(name: str) -> tuple[str, ...]:
    """The person as named, with and without an article."""
    bare = re.sub(r"^(?:the|our|your|an?)\s", "", name.strip(), flags=re.IGNORECASE)
    return (bare,)
