"""Personal data and secrets in text: found by form and checksum, masked or dropped.

Found are e-mail addresses, telephone numbers, IBANs (ISO 13616: length by country, remainder 1
modulo 97), payment cards (ISO/IEC 7812: Luhn), IP addresses and credentials. Names of people are
not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_IBAN_LENGTHS = {
    item[:2]: int(item[2:])
    for item in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 "
        "EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 "
        "IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 "
        "NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 TN24 TR26 UA29 "
        "VA22 VG24 XK20"
    ).split()
}

_EMAIL = re.compile(
    r"(?<![\w.+%-])(?!git@)\w[\w.+%-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}\b"
)
_IBAN_START = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?= ?[A-Z0-9])")
_CARD = re.compile(r"(?<![\w.,-])(?<!\d )(?:\d[ -]?){12,18}\d(?!\w|[.,-]\d| \d)")
_CARD_KINDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}"
    r"|(?:6\d|35)\d{14}(?:\d{3})?"
)
_IPV4 = re.compile(r"(?<![\w.-])(?<!==)(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])[0-9A-Fa-f]{2,4}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:])"
)
# "version 1.2.3.4" and "section 1.2.3.4" are no addresses.
_NUMBERING = re.compile(r"(?:version|release|section|chapter|build|ver\.|v\.)\s*$", re.IGNORECASE)
_PHONES = (
    re.compile(r"(?<![\w.+-])\+\d{1,3}[ ().-]{0,2}(?:\d[ ().-]{0,2}){5,12}\d(?!\w)"),
    re.compile(
        r"(?<![\w.+/-])(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}(?=([.-])\d{3}\1)[.-])"
        r"\d{3}[ .-]\d{4}(?![\w-])"
    ),
    re.compile(
        r"(?<![\w.+/-])(?<!\d )(?:\(0[1-9]\d{1,4}\)|0[1-9]\d{1,4})(?:[ /-]\d{2,8}){1,4}"
        r"(?![\w-]|[.,]\d)"
    ),
    re.compile(r"(?<![\w.+/-])0[1-9](?:([ .-])\d\d)(?:\1\d\d){3}(?![\w-])"),
)
_SPOKEN_PHONE = re.compile(
    r"\b(?:tel|telephone|telefon|phone|mobile|cell|fax|whatsapp|call(?: me)?)\b\.?"
    r"(?: (?:number|no\.?|is|at|on)){0,2}\s?[:#]?\s?(?P<value>\(?\d[\d ().-]{6,16}\d)(?!\w)",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ]\d{4}")
_SECRETS = (
    re.compile(
        r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----.*?(?:-----END (?:[A-Z]+ )*PRIVATE KEY-----|\Z)",
        re.DOTALL,
    ),
    re.compile(r"(?<=://)[^\s/:@]+:[^\s/:@]+(?=@)"),
    re.compile(
        r"(?<![\w-])(?:sk-[\w-]{20,}|sk_live_\w{16,}|gh[opsur]_\w{30,}|github_pat_\w{22,}"
        r"|glpat-[\w-]{20,}|hf_[A-Za-z0-9]{30,}|xox[abprs]-[\w-]{10,}|A[KS]IA[0-9A-Z]{16}"
        r"|AIza[\w-]{35}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,})(?![\w-])"
    ),
)
_ASSIGNED = re.compile(
    r"(?<![a-z])(?P<name>api[_-]?key|secret(?:[_-]?key)?|(?:access|auth)[_-]?token|token|bearer"
    r"|passwd|password|pwd)[\"']?(?:\s*[:=]\s*|(?<=bearer)\s+)[\"']?"
    r"(?P<value>[\w+/=!@#%^&*~-]{8,})(?![\w(.])",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(r"your|example|xxx|placeholder|change|\*\*\*|insert|dummy", re.IGNORECASE)
# Passwords are short; other values of this length are mostly names and numbers.
_MIN_TOKEN_CHARS = 16

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Finding:
    """A stretch `[start, end)` of a text and what it is."""

    kind: str
    start: int
    end: int


def find_pii(text: str) -> list[Finding]:
    """Return what is personal or secret in `text`, in order, none overlapping another."""
    found: list[Finding] = []
    for kind, find in _FINDERS:
        for start, end in find(text):
            if all(end <= other.start or start >= other.end for other in found):
                found.append(Finding(kind, start, end))
    return sorted(found, key=lambda finding: finding.start)


def mask(text: str) -> tuple[str, list[str]]:
    """Return `text` with every finding replaced by its kind, as in `[EMAIL]`, and the kinds."""
    parts: list[str] = []
    position = 0
    findings = find_pii(text)
    for finding in findings:
        parts += [text[position : finding.start], f"[{finding.kind.upper()}]"]
        position = finding.end
    return "".join([*parts, text[position:]]), [finding.kind for finding in findings]


def is_iban(text: str) -> bool:
    """Whether `text`, spaces aside, is an IBAN with its country's length and a right checksum."""
    compact = text.replace(" ", "")
    if len(compact) != _IBAN_LENGTHS.get(compact[:2]) or not compact.isascii():
        return False
    digits = "".join(str(int(char, 36)) for char in compact[4:] + compact[:4] if char.isalnum())
    return int(digits) % 97 == 1


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of those before it."""
    total = 0
    for place, char in enumerate(reversed(digits)):
        value = int(char) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _secrets(text: str) -> Iterator[Span]:
    for pattern in _SECRETS:
        yield from (match.span() for match in pattern.finditer(text))
    for match in _ASSIGNED.finditer(text):
        value = match["value"]
        is_password = match["name"].lower().startswith("p")
        is_mixed = re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
        is_long = is_password or len(value) >= _MIN_TOKEN_CHARS
        if is_mixed and is_long and not _PLACEHOLDER.search(value):
            yield match.span("value")


def _emails(text: str) -> Iterator[Span]:
    yield from (match.span() for match in _EMAIL.finditer(text))


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN_START.finditer(text):
        size = _IBAN_LENGTHS.get(match.group()[:2], 0)
        end = match.start()
        while size and end < len(text) and (text[end].isalnum() or text[end] == " "):
            size -= text[end] != " "
            end += 1
        is_end = end == len(text) or not text[end].isalnum()
        if not size and is_end and is_iban(text[match.start() : end]):
            yield match.start(), end


def _cards(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match.group())
        if _CARD_KINDS.fullmatch(digits) and passes_luhn(digits):
            yield match.span()


def _addresses(text: str) -> Iterator[Span]:
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            if _NUMBERING.search(text, max(match.start() - 12, 0), match.start()):
                continue
            try:
                address = ipaddress.ip_address(match.group())
            except ValueError:
                continue
            # Loopback and net masks point at nobody; `abc::def` is a name in a program.
            is_nobody = match.group().startswith("255.") or not re.search(r"\d", match.group())
            if not (address.is_loopback or address.is_unspecified or is_nobody):
                yield match.span()


def _phones(text: str) -> Iterator[Span]:
    spans = [match.span() for pattern in _PHONES for match in pattern.finditer(text)]
    spans += [match.span("value") for match in _SPOKEN_PHONE.finditer(text)]
    for start, end in spans:
        number = text[start:end]
        num_digits = sum(char.isdigit() for char in number)
        if 7 <= num_digits <= 15 and not _DATE.match(number):
            yield start, end


# The more certain kinds first: what they take cannot be taken for something else.
_FINDERS: tuple[tuple[str, Callable[[str], Iterator[Span]]], ...] = (
    ("secret", _secrets),
    ("email", _emails),
    ("iban", _ibans),
    ("card", _cards),
    ("ip", _addresses),
    ("phone", _phones),
)
