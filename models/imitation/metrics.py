"""How an answer is held against its gold answers and its citations.

Exact match and F1 are those of the official SQuAD 2.0 scorer (Rajpurkar et al., 2018); citation
precision and recall those of ALCE (Gao et al., 2023), with any checker in the NLI model's place.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_squad(text: str) -> str:
    """Lower-cased, without ASCII punctuation and the articles a, an, the; white space squeezed."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if the normalised prediction equals one of the normalised answers, else 0.0.

    An abstention is the empty prediction. It scores 1.0 where there are no answers, as the
    question has none, and 0.0 anywhere else.
    """
    said = normalise_squad(prediction)
    return float(any(said == normalise_squad(gold) for gold in _gold(answers)))


def token_f1(prediction: str, answers: Sequence[str]) -> float:
    """The highest F1 (0..1) of the words shared with one of the answers; empty as `exact_match`."""
    said = normalise_squad(prediction).split()
    return max(_overlap_f1(said, normalise_squad(gold).split()) for gold in _gold(answers))


def _gold(answers: Sequence[str]) -> Sequence[str]:
    """Answers that something is left of; the empty answer alone where there are none."""
    return [answer for answer in answers if normalise_squad(answer)] or [""]


def _overlap_f1(said: Sequence[str], gold: Sequence[str]) -> float:
    if not said or not gold:
        return float(said == gold)
    num_same = (Counter(said) & Counter(gold)).total()
    return 2 * num_same / (len(said) + len(gold))


def normalise_tokens(text: str) -> str:
    """Lower-cased words with single blanks between and around them, punctuation as blanks."""
    folded = unicodedata.normalize("NFKC", text).lower()
    words = re.sub(r"[^\w\s]", " ", folded).split()
    return f" {' '.join(words)} "


def contains_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether any gold answer stands in `text` on token boundaries."""
    haystack = normalise_tokens(text)
    return any(gold.strip() and gold in haystack for gold in map(normalise_tokens, answers))


def contains_all(text: str, answers: Sequence[str], all_of: Sequence[Sequence[str]]) -> bool:
    """Whether one answer of every group of `all_of` stands in `text` (any answer without it)."""
    if not all_of:
        return contains_answer(text, answers)
    return all(contains_answer(text, group) for group in all_of)


@dataclass(frozen=True, slots=True)
class CitedSentence:
    """A sentence of an answer, without marks, and the numbers of the passages it cites."""

    text: str
    citations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CitationScore:
    """ALCE's figures of one answer, both 0..1."""

    recall: float
    precision: float


def score_citations(
    sentences: Sequence[CitedSentence],
    num_passages: int,
    supports: Callable[[str, Sequence[int]], bool],
) -> CitationScore:
    """Citation recall and precision of one answer that was shown passages 1 to `num_passages`.

    `supports(sentence, numbers)` says whether those passages together entail the sentence. Recall
    is the share of sentences that their cited passages entail: 0 for one that cites nothing or a
    passage that was not shown. Precision is the share of citations that count: those of a sentence
    so supported, less each that alone does not entail it while the others do. An answer without
    sentences scores 0, as ALCE has it, and so does the precision of one without citations.
    """
    num_supported = num_citations = num_right = 0
    for sentence in sentences:
        cited = tuple(dict.fromkeys(sentence.citations))
        num_citations += len(cited)
        if not cited or not all(1 <= number <= num_passages for number in cited):
            continue
        if not supports(sentence.text, cited):
            continue
        num_supported += 1
        num_right += sum(not _is_idle(sentence.text, cited, number, supports) for number in cited)
    return CitationScore(
        recall=num_supported / len(sentences) if sentences else 0.0,
        precision=num_right / num_citations if num_citations else 0.0,
    )


def _is_idle(
    text: str, cited: tuple[int, ...], number: int, supports: Callable[[str, Sequence[int]], bool]
) -> bool:
    """Whether a citation adds nothing: it alone does not entail the sentence, the rest do."""
    if len(cited) == 1 or supports(text, (number,)):
        return False
    return supports(text, tuple(other for other in cited if other != number))
