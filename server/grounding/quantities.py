"""Numbers, amounts, dates, times and codes of a text as values that can be compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from server.grounding.units import MONTHS, OTHERS, SCALES, SMALL, UNITS, WEAK

QuantityKind = Literal["number", "time", "date", "code"]
Direction = Literal["up", "down"]

_MONTH = "(?:" + "|".join(sorted(MONTHS, key=len, reverse=True)) + r")\b\.?"
_WORD = "(?:" + "|".join(sorted([*SMALL, *OTHERS], key=len, reverse=True)) + ")"
_NUM = r"\d{1,3}(?:[,.'’\u00a0\u202f ]\d{3})+(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)?"
_SCALE = r"(?:hundred|thousand|million|billion|bn|k)\b"
_GLUED = "k|m|g|l|h|s|w|v|km|cm|mm|kg|mg|ml|gb|mb|kb|tb|mw|kw|bn|min|am|pm|x|eur|usd|gbp|chf"
_HALF_DAY = r"(?:\s?(?P<half>[ap])\.?m\b\.?)"
_FOUND = re.compile(
    rf"(?P<iso>\b(\d{{4}})-(\d\d)-(\d\d)\b)"
    rf"|(?P<numeric>\b(\d{{1,2}})[./](\d{{1,2}})[./](\d{{4}}|\d\d)\b)"
    rf"|(?P<dmy>\b(?P<d1>\d{{1,2}})(?:st|nd|rd|th|\.)?\s(?:of\s)?(?P<m1>{_MONTH})"
    rf"(?:,?\s(?P<y1>\d{{4}}))?\b)"
    rf"|(?P<mdy>\b(?P<m2>{_MONTH})\s(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?\b(?![:.]\d)"
    rf"(?:,?\s(?P<y2>\d{{4}})\b)?)"
    rf"|(?P<my>\b(?P<m3>{_MONTH})(?:\s(?P<y3>\d{{4}})\b)?)"
    rf"|(?P<clock>\b(?P<h1>\d{{1,2}})(?::(?P<min1>\d\d)|\.(?P<min2>\d\d)(?=\s?[ap]\.?m|\sUhr))"
    rf"{_HALF_DAY}?)"
    rf"|(?P<hour>\b(?P<h2>\d{{1,2}})\s?(?P<half2>[ap])\.?m\b\.?)"
    rf"|(?P<spoken>\b(?P<part>half|quarter)\s(?P<side>past|to)\s(?P<h3>{_WORD}|\d{{1,2}})\b)"
    rf"|(?P<noon>\b(?:noon|midday|midnight)\b)"
    rf"|(?P<code>\b\d+(?:\.\d+){{2,}}\b|\b[A-Za-z]+[-_]?\d\w*(?:[.-]\w+)*"
    rf"|\b(?!\d+(?:st|nd|rd|th|{_GLUED})\b)\d+[A-Za-z]\w*)"
    rf"|(?P<digits>(?<![\w.])(?:(?P<sign>[€$£¥])\s?)?(?P<value>{_NUM})(?:st|nd|rd|th)?"
    rf"(?:\s?(?P<scale>{_SCALE}))?)"
    rf"|(?P<words>\b(?P<word>{_WORD})(?:[- ](?P<word2>{_WORD}))?\b"
    rf"(?:\s(?P<scale2>{_SCALE})(?:\sand\s(?P<word3>{_WORD})(?:[- ](?P<word4>{_WORD}))?\b)?)?)",
    re.IGNORECASE,
)
_CHUNK = re.compile(r"\S+")
_PIECE = re.compile(r"[€$£¥]?[^\W_]+")
_COUNTING = frozenset([*SMALL, *OTHERS, *MONTHS, "noon", "midday", "midnight", "quarter"])
_HAS_DIGIT = re.compile(r"\d")
_UNIT = re.compile(r"[\s-]?(per cent|%|°[CF]?|[€$£¥]|[a-z]+/h\b|[^\W\d_]+\b(?!\d))", re.IGNORECASE)
# "Hall 4" and "Alto 3": a number that names and does not count.
_LABEL = re.compile(
    r"(?:[a-z,;]\s|^)[A-Z][A-Za-z]+\s\Z|\b(?:[Rr]oom|[Pp]ort|[Vv]ersion|[Ee]xtension)\s\Z"
)
_SIGNS = re.compile(r"(\b(?:EUR|USD|GBP|CHF|JPY)|[€$£¥])\s?\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Quantity:
    """What stands at `[start, end)` of a text.

    `values` are the readings it may have ("1.500"; for a date `yyyymmdd` parts, see `date`), in
    units of `dimension` (None: unknown). `direction`: whether it is a least ("up") or a most
    ("down") value. `is_weak`: a word such as "one" that often counts nothing.
    """

    start: int
    end: int
    kind: QuantityKind
    values: frozenset[float]
    dimension: str | None = None
    direction: Direction | None = None
    is_weak: bool = False
    code: str = ""
    dates: frozenset[tuple[int, int, int]] = frozenset()
    size: float = 1.0

    def matches(self, other: Quantity) -> bool:
        """Whether `other` says the same or, of a date, as much and more."""
        if self.kind == "code" or other.kind == "code":
            return self.code != "" and self.code == other.code
        if self.kind == "date" and other.kind == "date":
            return any(
                all(mine in (0, theirs) for mine, theirs in zip(a, b, strict=True))
                for a in self.dates
                for b in other.dates
            )
        if self.kind != other.kind:
            return False
        known = self.dimension is not None and other.dimension is not None
        if known and self.dimension != other.dimension:
            return False
        mine, theirs = (
            ({v * q.size for v in q.values} if known else q.values) for q in (self, other)
        )
        return any(abs(a - b) <= 1e-6 * max(1.0, abs(a)) for a in mine for b in theirs)

    def competes(self, other: Quantity) -> bool:
        """Whether the two could stand in each other's place."""
        if self.kind != other.kind:
            return False
        return None in (self.dimension, other.dimension) or self.dimension == other.dimension


def find_quantities(text: str) -> list[Quantity]:
    """The quantities of `text` in order; directions are left to `server.grounding.polarity`."""
    found: list[Quantity] = []
    position = 0
    # The pattern is tried only where something countable begins, which is seldom.
    for chunk in _CHUNK.finditer(text):
        has_digit = _HAS_DIGIT.search(chunk.group()) is not None
        for piece in _PIECE.finditer(chunk.group()):
            start = chunk.start() + piece.start()
            if start < position or not (has_digit or piece.group().lower() in _COUNTING):
                continue
            if match := _FOUND.match(text, start):
                position = match.end()
                found += _read(text, match)
    return found


def _read(text: str, match: re.Match[str]) -> Iterator[Quantity]:
    start, end = match.span()
    group = match.groupdict()
    if group["iso"]:
        year, month, day = (int(part) for part in match.group().split("-"))
        yield _date(match, (day, month, year))
    elif group["numeric"]:
        a, b, year = (int(part) for part in re.split(r"[./]", match.group()))
        year += 2000 if year < 100 else 0
        readings = [(a, b, year), (b, a, year)] if "/" in match.group() else [(a, b, year)]
        yield _date(match, *readings)
    elif group["dmy"] or group["mdy"] or group["my"]:
        name = group["m1"] or group["m2"] or group["m3"]
        if group["my"] and not _is_month(text, match):
            return
        on = int(group["d1"] or group["d2"] or 0)
        of = int(group["y1"] or group["y2"] or group["y3"] or 0)
        yield _date(match, (on, MONTHS[name.lower().rstrip(".")], of))
    elif group["clock"] or group["hour"] or group["spoken"] or group["noon"]:
        yield Quantity(start, end, "time", _read_time(group))
    elif group["code"]:
        yield Quantity(start, end, "code", frozenset(), code=match.group().casefold())
    elif group["digits"]:
        scale = SCALES[group["scale"].lower()] if group["scale"] else 1.0
        values = frozenset(value * scale for value in _parse(group["value"]))
        yield _with_unit(text, Quantity(start, end, "number", values), group["sign"])
    else:
        yield _with_unit(text, _read_words(match), None)


def _read_words(match: re.Match[str]) -> Quantity:
    words = [w.lower() for w in (match["word"], match["word2"]) if w]
    rest = [w.lower() for w in (match["word3"], match["word4"]) if w]
    scale = SCALES[match["scale2"].lower()] if match["scale2"] else 1.0
    values = {**SMALL, **OTHERS}
    readings = {sum(values[w] for w in words) * scale + sum(values[w] for w in rest)}
    is_weak = scale == 1.0 and all(word in WEAK for word in words)
    if words == ["half"]:
        readings |= {50.0}
    return Quantity(*match.span(), "number", frozenset(readings), is_weak=is_weak)


def _with_unit(text: str, number: Quantity, sign: str | None) -> Quantity:
    unit = None
    before = _SIGNS.search(text[max(0, number.start - 5) : number.start])
    if sign or before:
        unit = (sign or (before[1] if before else "")).lower()
    else:
        # "ten working days": the unit may stand behind one more word.
        position = number.end
        for _ in range(2):
            found = _UNIT.match(text, position)
            if found is None:
                break
            name = found[1].lower()
            is_attached = found.start(1) == number.end
            if name in UNITS and (len(name) > 1 or not name.isalpha() or position == number.end):
                unit = name
                break
            if is_attached or name in ("to", "and", "or", "of", "in", "at", "per"):
                break
            position = found.end()
    if unit is None:
        is_label = _LABEL.search(text[max(0, number.start - 30) : number.start]) is not None
        return replace(number, dimension="#") if is_label and not sign else number
    dimension, size = UNITS[unit]
    return replace(
        number, dimension=dimension, size=size, is_weak=number.is_weak and dimension == "month"
    )


def _parse(text: str) -> set[float]:
    """The readings of digits with separators: "1.500" is 1500 or 1.5."""
    plain = re.sub(r"['’\u00a0\u202f ]", "", text)
    readings = set()
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", plain):
        readings.add(float(plain.replace(",", "")))
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+(?:,\d+)?", plain):
        readings.add(float(plain.replace(".", "").replace(",", ".")))
    if plain.count(",") + plain.count(".") <= 1:
        readings.add(float(plain.replace(",", ".")))
    return readings


def _read_time(group: dict[str, str | None]) -> frozenset[float]:
    """Minutes since midnight; both halves of the day where it is not said which."""
    if group["noon"]:
        return frozenset({0.0, 1440.0} if "night" in group["noon"].lower() else {720.0})
    if group["spoken"]:
        name = str(group["h3"]).lower()
        hour = int(name) if name.isdigit() else int(SMALL.get(name, 0))
        minutes = {"half": 30, "quarter": 15}[str(group["part"]).lower()]
        value = hour * 60 + (minutes if group["side"] == "past" else -minutes)
        return frozenset({float(value), float(value + 720)})
    hour = int(group["h1"] or group["h2"] or 0)
    half = (group["half"] or group["half2"] or "").lower()
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return frozenset({float(hour * 60 + int(group["min1"] or group["min2"] or 0))})


def _date(match: re.Match[str], *readings: tuple[int, int, int]) -> Quantity:
    return Quantity(*match.span(), "date", frozenset(), dates=frozenset(readings))


def _is_month(text: str, match: re.Match[str]) -> bool:
    """Whether a month's name alone is one: "may" and "mar" are words, too."""
    name = match["m3"].rstrip(".")
    if not name[0].isupper():
        return False
    if len(name) > 4 or match["y3"]:
        return True
    before = text[: match.start()].rstrip().rsplit(" ", 1)[-1].lower()
    return before in (
        "in",
        "of",
        "by",
        "since",
        "until",
        "till",
        "and",
        "to",
        "from",
        "every",
        "im",
    )
