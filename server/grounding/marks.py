"""Citation marks of an answer: `[1]`, `[1, 2]`, and the other ways in which models write them."""

from __future__ import annotations

import re

_NAMED = r"(?:(?:doc(?:ument)?|source|passage|ref(?:erence)?|citation|excerpt)s?\.?\s*#?)?"
_LIST = r"\^?(\d{1,3}(?:\s*(?:,|;|–|-|and)\s*\d{1,3})*)(?:†[^\]】]*)?"
MARK = re.compile(rf"\s*(?:\[\s*{_NAMED}{_LIST}\s*\]|【\s*{_NAMED}{_LIST}\s*】)", re.IGNORECASE)
_CODE_OR_MARK = re.compile(
    rf"(?P<code>(?P<run>`+)[^`]+(?P=run)(?!`))|{MARK.pattern}", re.IGNORECASE
)
_MAX_RANGE = 20


def strip_marks(sentence: str) -> str:
    """The sentence without citation marks; what stands in inline code is left."""
    return _CODE_OR_MARK.sub(lambda match: match["code"] or "", sentence)


def read_marks(sentence: str) -> tuple[int, ...]:
    """The numbers of the sentence's citation marks, each once, in order."""
    numbers: list[int] = []
    for match in _CODE_OR_MARK.finditer(sentence):
        if match["code"]:
            continue
        listed = next((group for group in match.groups()[2:] if group), "")
        for part in re.split(r"\s*(?:,|;|and)\s*", listed):
            first, _, last = re.sub(r"\s*[–-]\s*", "-", part).partition("-")
            stop = int(last) if last else int(first)
            numbers += range(int(first), min(stop, int(first) + _MAX_RANGE) + 1)
    return tuple(dict.fromkeys(numbers))
