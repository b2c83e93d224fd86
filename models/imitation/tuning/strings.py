"""Strings on which two tokenizers are compared: what documents, chats and programs hold."""

from __future__ import annotations

import random
from collections.abc import Iterable

_WORDS = (
    "the of parental leave receives sixteen weeks handbook Manager approves don't they'll I'M "
    "naïve Größe façade São Øresund œuvre Łódź привет мир Ελλάδα שלום مرحبا नमस्ते 東京タワー "
    "你好世界 한국어 ไทย tiếng Việt supercalifragilistic snake_case CamelCase kebab-case"
).split()
_DIGITS = (
    "0 7 42 100 1984 31415926 3.14 1,000,000 1e-9 0x1F ½ ² Ⅷ ٣ 12:30 2024-05-17 50% €5".split()
)
_SPACES = (
    " ",
    "  ",
    "    ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    " \n ",
    "\t\t",
    "\u00a0",
    "\u3000",
    "\u200b",
)
_MARKS = [*".,;:!?()[]{}<>\"'`~@#$%^&*-_=+/\\|", "...", "->", "==", "!=", "—", "«", "»", "…"]
_EMOJI = ("🦜", "👩‍🔬", "🇪🇺", "👍🏽", "❤️", "∑", "≤", "→")
_CODE = (
    "def add(a, b):\n    return a + b\n",
    "for (int i = 0; i < n; ++i) { x[i] *= 2; }",
    "SELECT name, count(*) FROM t WHERE id >= 10;",
    "<div class='a'>&nbsp;</div>",
    "https://example.com/a?b=c#d",
    "user@example.com",
    "$HOME/.config/x.toml",
    "\\frac{1}{2}",
    '{"key": [1, 2.5, null]}',
    "<|im_end|> </s> [INST] <|endoftext|> <0x41>",
)
# Ranges of assigned letters: Latin with marks, Greek, Cyrillic, Hebrew, Devanagari, kana, Han.
_RANGES = ((0xC0, 0x17F), (0x391, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA), (0x905, 0x939),
           (0x3041, 0x3096), (0x4E00, 0x9FA5))  # fmt: skip


def parity_strings(count: int, texts: Iterable[str] = (), seed: int = 0) -> list[str]:
    """Return `count` different strings, some of them cut from `texts`; equal seeds give equal ones.

    Words of many scripts, digits, white space, code, emoji and letters at random, mixed.
    """
    rng = random.Random(seed)
    samples = [text for text in texts if text.strip()]
    kinds = (_WORDS, _DIGITS, _SPACES, _MARKS, _EMOJI, _CODE)
    found = dict.fromkeys([*_CODE, *(a + b for a in _SPACES for b in ("a", "7", " x"))])
    while len(found) < count:
        parts: list[str] = []
        if samples and rng.random() < 0.3:
            text = rng.choice(samples)
            start = rng.randrange(len(text))
            parts.append(text[start : start + rng.randint(1, 200)])
        for _ in range(rng.randint(1, 12)):
            parts.append(rng.choice(rng.choices(kinds, (6, 3, 2, 3, 1, 1))[0]))
            if rng.random() < 0.6:
                parts.append(" ")
            if rng.random() < 0.1:
                parts.append(_letters(rng))
        found.setdefault("".join(parts))
    return list(found)[:count]


def _letters(rng: random.Random) -> str:
    first, last = rng.choice(_RANGES)
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 6)))
