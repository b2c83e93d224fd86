"""Sentences that tell a number, a limit or a moment, to questions that ask for it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from server.evaluation.authoring.drafts import Wording
from server.evaluation.authoring.english import (
    first_clause,
    is_subject,
    lower_first,
    third_person,
    to_asker,
)

Words = frozenset[str]

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
MOMENT = (
    rf"(?:\d{{1,2}}[:.]\d\d(?:\s?[ap]m)?(?:\sto\s\d{{1,2}}[:.]\d\d)?|\d{{1,2}}\s?[ap]m|noon|midnight"
    rf"|(?:the\s)?(?:\d{{1,2}}(?:st|nd|rd|th)?\s)?{_MONTH}(?:\s\d{{1,2}}(?:st|nd|rd|th)?)?"
    rf"(?:,?\s\d{{4}})?|(?:19|20)\d\d|(?:every\s|the\s(?:first|second|third|last)\s)?{_DAY}s?)"
)
SUBJECT = r"(?P<subject>[A-ZÀ-Þ][\w'’-]*(?:\s[\w'’&-]+){0,7}?)"
_BE = r"(?P<be>is|are|was|were)"
_MODAL = r"(?P<modal>must|should|can|may|will|shall)"
_VERBS = (
    "take cost last receive get need require hold contain have cover pay earn give allow include"
    " weigh measure reach open close start begin end expire run meet arrive lapse keep use support"
    " employ make serve carry produce store provide offer".split()
)
_THIRD = {third_person(verb): verb for verb in _VERBS}


def ask_amount(said: str, words: Words) -> Iterator[Wording]:
    """`The second parent receives seven weeks of leave`."""
    verbs = "|".join([*_THIRD, *_VERBS])
    match = re.match(
        rf"{SUBJECT}\s(?:(?P<modal>can|may|must|should|will)\s)?(?P<verb>{verbs})\s"
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


def ask_measure(said: str, words: Words) -> Iterator[Wording]:
    """`The probation period is six months`."""
    match = re.match(
        rf"{SUBJECT}\s{_BE}\s(?P<number>{_QUANTITY})(?![:.\d])(?P<unit>\s{_TIME_UNIT}|\s[a-z]+)?(?P<rest>.*)$",
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
    if not unit and not re.search(r"\d", number):
        return
    if re.search(_MONEY, number):
        question = f"How much {match['be']} {subject}?"
    elif re.fullmatch(_TIME_UNIT, unit):
        question = f"How long {match['be']} {subject}?"
    else:
        question = f"What {match['be']} {subject}?"
    yield Wording(question, _vary(number, unit), "number", subject, rank=0)


def ask_deadline(said: str, words: Words) -> Iterator[Wording]:
    """`Expenses must be claimed within 30 days of the trip`."""
    match = re.match(
        rf"{SUBJECT}\s(?P<aux>must|should|can|may|will|is|are)\s(?P<done>[\w\s-]{{3,60}}?)\swithin\s"
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
    is_passive = match["aux"] in ("is", "are")
    if len(rest.split()) > 8 or (is_passive and re.search(r"\b(?:the|an?)\b", match["done"])):
        return
    question = f"How soon {match['aux']} {subject} {to_asker(match['done'] + rest)}?"
    number, unit = match["number"].split(" ", 1)
    yield Wording(question, _vary(number, unit), "number", subject, rank=0)


def ask_when(said: str, words: Words) -> Iterator[Wording]:
    """`The canteen opens at 11:30`, `Reports must be sent by 15 March`."""
    verbs = "open|close|start|begin|end|expire|meet|run|arrive|happen|take place"
    third = "|".join(third_person(verb) for verb in verbs.split("|")[:-1]) + "|takes place"
    match = re.match(
        rf"{SUBJECT}\s(?:(?P<verb>{third}|{verbs})"
        r"|(?P<aux>is|are|was|were|must be|should be|will be)"
        r"\s(?P<done>(?:[\w-]+\s){0,3}?[\w-]+(?:ed|en|t|ld|wn|de|id)))"
        r"\s(?:(?P<by>by|before|until|since)|at|on|in|from|every)"
        rf"\s(?P<moment>{MOMENT})(?P<rest>.*)$",
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


def _vary(number: str, unit: str) -> tuple[str, ...]:
    """The number as it stands, with its unit and alone."""
    bare = re.sub(rf"^{_ABOUT}\s", "", number.strip()).rstrip(".,")
    return tuple(dict.fromkeys(filter(None, (f"{bare} {unit}".strip(), bare))))
