"""Conversations in other languages than the wanted ones, by py3langid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from models.imitation.conversations import Conversation
from models.imitation.errors import ExtraMissing, TrainingDataInvalid
from models.imitation.filtering.rules import Stateless
from models.imitation.importing.report import Drop

# Below, a guess is hardly better than chance: greetings and names are of any language.
MIN_LETTERS = 60
NOT_JUDGED = "language not judged, too short"
UNCERTAIN = "language uncertain"

_CODE = re.compile(r"^[ \t]*```.*?(?:^[ \t]*```|\Z)|`[^`\n]+`|https?://\S+", re.M | re.S)
_LETTER = re.compile(r"[^\W\d_]")


class LanguageRule(Stateless):
    """Drops what is in none of the languages, judged by all turns together, code left out.

    It takes another language whose probability is `threshold` at least, for bare code and lists of
    names are hardly of any. Those pass and are counted, as does what has fewer than 60 letters.
    """

    def __init__(self, languages: Sequence[str], threshold: float) -> None:
        """Raises `ExtraMissing`, and `TrainingDataInvalid` for a code that nobody knows."""
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ImportError:
            raise ExtraMissing(
                "Telling languages needs the package py3langid; install mynah[tune]."
            ) from None
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self._languages = frozenset(languages)
        self._threshold = threshold
        unknown = sorted(self._languages - set(self._identifier.labels))
        if unknown:
            raise TrainingDataInvalid(
                f"{unknown[0]} is no known language; give ISO 639-1 codes such as en, de or fr."
            )

    def check(self, conversation: Conversation, changed: Counter[str]) -> Conversation | Drop:
        text = _CODE.sub(" ", "\n".join(turn.content for turn in conversation.turns))
        if sum(1 for _ in _LETTER.finditer(text)) < MIN_LETTERS:
            changed[NOT_JUDGED] += 1
            return conversation
        language, probability = self._identifier.classify(text)
        if language in self._languages:
            return conversation
        if probability >= self._threshold:
            return Drop("language", f"{language} {probability:.2f}")
        changed[UNCERTAIN] += 1
        return conversation
