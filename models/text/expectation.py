"""What kind of answer a question asks for, and whether a sentence has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Expected = Literal["number", "time", "person", "any"]

_NUMBER = re.compile(
    r"\bhow (?:many|much|long|often|old|far|big|large|high|late|early|soon)\b"
    r"|\bwhat (?:percentage|percent|share|number|amount|price|limit|maximum|minimum|score|rate)\b"
    r"|\b(?:above|below|under|over|within|after|by) (?:what|which)\b|\bat (?:most|least)\b",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"\bwhen\b|\bwhat (?:date|day|time|year|month)\b|\b(?:which|what) quarter\b", re.IGNORECASE
)
_PERSON = re.compile(r"\bwho(?:m|se)?\b", re.IGNORECASE)

_QUANTITY = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|"
    r"forty|fifty|sixty|ninety|hundred|thousand|half|quarter|once|twice|daily|weekly|monthly|"
    r"quarterly|yearly|annually|unlimited|no limit)\b",
    re.IGNORECASE,
)
_MOMENT = re.compile(
    r"\d|\b(?:january|february|march|april|may|june|july|august|september|october|november|december"
    r"|monday|tuesday|wednesday|thursday|friday|saturday|sunday|day|week|month|quarter|year|before|"
    r"after|within|until|morning|noon|midnight)\b",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"(?<![.!?:]\s)(?<!^)\b[A-Z][a-z]+|@\w+"
    r"|\b(?:team|manager|lead|officer|department|owner|director|engineer)s?\b"
)


@dataclass(frozen=True, slots=True)
class Expectation:
    """The kind of answer a question asks for."""

    kind: Expected

    def measure(self, sentence: str, question: str) -> float:
        """1.0 if the sentence has such a thing beyond those in the question, else 0.0."""
        if self.kind == "any":
            return 0.5
        pattern = {"number": _QUANTITY, "time": _MOMENT, "person": _NAME}[self.kind]
        asked = {match.group().casefold() for match in pattern.finditer(question)}
        if self.kind != "person":
            # A digit of the question ("3 days") must not count for any other number.
            words = set(re.findall(r"[\w.,]+", question.casefold()))
            return float(
                any(
                    pattern.search(word) and word not in words
                    for word in re.findall(r"[\w.,]+", sentence.casefold())
                )
            )
        return float(any(m.group().casefold() not in asked for m in pattern.finditer(sentence)))


def expect_answer(question: str) -> Expectation:
    """The kind of answer that the question's own words ask for; English only, else `any`."""
    if _NUMBER.search(question):
        return Expectation("number")
    if _TIME.search(question):
        return Expectation("time")
    if _PERSON.search(question):
        return Expectation("person")
    return Expectation("any")
