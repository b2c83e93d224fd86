"""Text as the word index sees it: accents and case folded, scripts without spaces cut up.

FTS5's `unicode61` cuts words at spaces and marks. A run of Chinese, Japanese, Korean or Thai would
be one word to it, found only by a query of the very same run; so such runs are written as their
overlapping pairs of characters, the usual way to search them (as in Lucene's CJKAnalyzer).
"""

from __future__ import annotations

import re
import unicodedata

# Thai, Lao, Myanmar, Khmer, Hangul letters, kana with Bopomofo, Han with its extensions, Hangul
# syllables, Han for compatibility, half-width kana, Han beyond the basic plane.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3005-\u3007\u3040-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_SPACELESS}]+")
_WORD = re.compile(r"\w+")
# What `remove_diacritics` takes off a letter; other combining marks are letters of their scripts.
_ACCENTS = re.compile("[\u0300-\u036f]")


def separate(text: str) -> str:
    """The text with each run of a script without spaces as its pairs, then its last character."""
    if text.isascii():
        return text
    return _RUN.sub(lambda match: f" {' '.join(_pairs(match[0]))} ", text)


def query_words(query: str) -> list[str]:
    """Words of a query, lower-case, each once, in order: as `separate` writes them.

    The last character of a run is left out where the run has more; it is in the pair before it.
    """
    words: dict[str, None] = {}
    for word in _split_words(unicodedata.normalize("NFC", query).lower()):
        end = 0
        for match in _RUN.finditer(word):
            words[word[end : match.start()]] = None
            words.update(dict.fromkeys(_pairs(match[0])[: max(1, len(match[0]) - 1)]))
            end = match.end()
        words[word[end:]] = None
    words.pop("", None)
    return list(words)


def is_spaceless(word: str) -> bool:
    """True if the word is of a script without spaces."""
    return _RUN.match(word) is not None


def fold_accents(text: str) -> str:
    """The text in lower case without accents, as `unicode61 remove_diacritics 2` compares it."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFD", text.lower())
    return unicodedata.normalize("NFC", _ACCENTS.sub("", decomposed))


def _split_words(text: str) -> list[str]:
    if text.isascii():
        return _WORD.findall(text)
    # Vowel signs of Indic scripts are marks: letters to their readers, but not to `\\w`.
    kept = (
        c if c == "_" or c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in text
    )
    return "".join(kept).split()


def _pairs(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run))]
