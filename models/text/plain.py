"""Text of documents as it is read: the words of links and images, without targets and marks.

What reads sentences (the embedder, the reader, the bundled model) was trained on plain text, and
the parts of an address are words of no sentence. What is quoted stays as it stands.
"""

from __future__ import annotations

import re

_LABEL = r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]"
# Anything between the brackets would take the words of "[x](see below)" along.
_TARGET = r"\(\s*(?:<[^<>]*>|(?:[^\s()]|\([^\s()]*\))*)(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)"
_LINK = re.compile(rf"!?{_LABEL}(?:{_TARGET}|\[[^\[\]]*\])")
# Not whatever stands in angle brackets: "<your-name>" says something.
_TAG = re.compile(
    r"</?(?:a|b|br|center|code|del|details|div|em|figure|font|h[1-6]|hr|i|img|kbd|li|mark|ol|p|pre|s|"
    r"small|span|strong|sub|summary|sup|table|tbody|td|th|thead|tr|u|ul)(?=[\s/>])"
    r"(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>",
    re.IGNORECASE,
)
_STRONG = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
_MARKS = re.compile(r"[\[<]|\*\*")
# An image in a link's label, and what stands around both.
_MAX_DEPTH = 3


def read_plain(text: str) -> str:
    """`text` with links and images as their labels, without tags and marks of strong emphasis."""
    if not _MARKS.search(text):
        return text
    plain = text
    for _ in range(_MAX_DEPTH):
        plain = _LINK.sub(lambda match: match[1], plain)
    plain = _STRONG.sub(lambda match: match[1], _TAG.sub(" ", plain))
    return " ".join(plain.split())
