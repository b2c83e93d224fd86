"""Whether a span of text backs a claim: words by alignment, facts by rules, no second model."""

from __future__ import annotations

from dataclasses import dataclass

from server.grounding.lexicon import (
    DENIALS,
    OBLIGATIONS,
    ONLY,
    OPPOSED,
    OPPOSITES,
    PERMISSIONS,
    PROHIBITIONS,
)
from server.grounding.quantities import Quantity
from server.grounding.reading import Negation, ReadText, StemSet

# The most that a claim gets whose number, name, negation or comparison differs from its span.
CONFLICT_SUPPORT = 0.4
# From this share of its content words on a claim without a conflict counts as backed (see
# `SUPPORT_FLOOR`); chosen on the building half of tests/data/attribution.jsonl.
_BACKED_SHARE = 0.5
SUPPORT_FLOOR = 0.6
# A word of the surroundings counts less than one of the span, and such words never outweigh the
# span's own: a sentence that has nothing of the claim but its neighbours is no evidence.
_NEARBY_WEIGHT = 0.5
_MAX_BORROWED = 0.34


@dataclass(frozen=True, slots=True)
class Support:
    """How far (0..1) a span backs a claim, and what speaks against it, if anything."""

    score: float
    conflict: str | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around a span: headings, lead-ins and neighbours, where a subject may stand.

    `stems` may cover words of a claim, `names` are folded words; `quantities` stand in neighbours
    and count only where the span has none of their kind.
    """

    stems: tuple[StemSet, ...] = ()
    names: frozenset[str] = frozenset()
    quantities: tuple[Quantity, ...] = ()


NOTHING_AROUND = Surroundings()


def check_support(
    claim: ReadText, span: ReadText, around: Surroundings = NOTHING_AROUND
) -> Support:
    """How far `span` backs `claim`.

    The share of the claim's content words that the span has, itself or as a synonym (words of the
    surroundings count half), scaled so that `SUPPORT_FLOOR` is where a claim counts as backed; and
    at most `CONFLICT_SUPPORT` where a fact differs.
    """
    share = measure_share(claim, span, around)
    score = scale_share(share)
    conflict = find_conflict(claim, span, around)
    if conflict is not None:
        return Support(min(score, CONFLICT_SUPPORT), conflict)
    return Support(score)


def scale_share(share: float) -> float:
    """A share of words as support: piecewise linear through (`_BACKED_SHARE`, `SUPPORT_FLOOR`)."""
    if share < _BACKED_SHARE:
        return SUPPORT_FLOOR * share / _BACKED_SHARE
    rest = (share - _BACKED_SHARE) / (1 - _BACKED_SHARE)
    return SUPPORT_FLOOR + (1 - SUPPORT_FLOOR) * rest


def measure_share(claim: ReadText, span: ReadText, around: Surroundings) -> float:
    """Share (0..1) of the claim's content words found; quantities that match count as words."""
    matched_quantities = sum(
        1.0 for q in claim.quantities if any(q.matches(other) for other in span.quantities)
    )
    total = len(claim.content) + float(len(claim.quantities))
    if not total:
        return 0.0
    missing = [stem for stem in claim.content if not span.stem_set.has(stem)]
    num_near = sum(any(near.has(stem) for near in around.stems) for stem in missing)
    num_found = len(claim.content) - len(missing) + matched_quantities
    return combine_shares(num_found, num_near, total)


def combine_shares(num_found: float, num_near: int, num_words: float) -> float:
    """Share (0..1) of words found in a span, with those that stand near it."""
    borrowed = min(num_near * _NEARBY_WEIGHT, _MAX_BORROWED * num_found)
    return (num_found + borrowed) / num_words


def find_conflict(claim: ReadText, span: ReadText, around: Surroundings) -> str | None:
    """What the claim says otherwise than the span, in words; None if nothing."""
    return (
        _compare_quantities(claim, span, around)
        or _compare_names(claim, span, around)
        or _compare_polarity(claim, span)
        or _compare_negations(claim, span)
    )


def _compare_quantities(claim: ReadText, span: ReadText, around: Surroundings) -> str | None:
    unmatched = [
        q for q in span.quantities if not any(other.matches(q) for other in claim.quantities)
    ]
    for quantity in claim.quantities:
        text = claim.text[quantity.start : quantity.end]
        twins = [other for other in span.quantities if quantity.matches(other)]
        if not twins:
            rivals = [other for other in unmatched if quantity.competes(other)]
            if quantity.is_weak and not rivals:
                continue
            if not rivals and any(quantity.matches(other) for other in around.quantities):
                continue
            return f"{text} is not in the span"
        if quantity.direction and all(_points_apart(quantity, twin) for twin in twins):
            return f"{text} is compared otherwise"
    return None


def _points_apart(quantity: Quantity, twin: Quantity) -> bool:
    if twin.direction is None:
        # "At least" makes another claim; "at most" is what a given value mostly means.
        return quantity.direction == "up" and quantity.kind == "number"
    return quantity.direction != twin.direction


def _compare_names(claim: ReadText, span: ReadText, around: Surroundings) -> str | None:
    for name in claim.names:
        if name.word in span.words or name.word in around.names:
            continue
        if span.stem_set.has(name.stem) or name.word in _ANYWHERE:
            continue
        return f"{claim.text[name.start : name.end]} is not in the span"
    return None


_ANYWHERE = frozenset("i am pm utc".split())
_SEQUENCE = frozenset("before after until till only first once".split())


def _compare_polarity(claim: ReadText, span: ReadText) -> str | None:
    """Opposites, duties against permissions, and what is said of some only."""
    mine, theirs = claim.stems, span.stems
    for one, other in OPPOSITES if mine & OPPOSED and theirs & OPPOSED else ():
        said = mine & one
        if not said or mine & other or not theirs & other:
            continue
        if theirs & one and not _stands_apart(claim, span, one, other):
            continue
        if bool(claim.negations) == bool(span.negations):
            return f"{min(said)} is the opposite of what the span says"
    is_plain = not (claim.negations or span.negations)
    has_duty = mine & OBLIGATIONS and not mine & PERMISSIONS
    if has_duty and is_plain and theirs & PERMISSIONS and not theirs & OBLIGATIONS:
        return "a duty where the span permits"
    if mine & PERMISSIONS and not (mine & OBLIGATIONS or mine & ONLY):
        if theirs & PROHIBITIONS and is_plain:
            return "a permission where the span forbids"
        if theirs & OBLIGATIONS and not theirs & PERMISSIONS and not claim.negations:
            return "a permission where the span has a duty"
    if "only" in mine and not theirs & ONLY and not span.negations:
        return "only is not in the span"
    return None


def _stands_apart(
    claim: ReadText, span: ReadText, one: frozenset[str], other: frozenset[str]
) -> bool:
    """Of a span with both opposites: whether the part that the claim speaks of has the other."""
    about = [stem for stem in claim.content if stem not in one]
    if not about:
        return False
    shares = []
    for part in span.parts:
        known = StemSet(part)
        shares.append((sum(known.has(stem) for stem in about), part))
    best = max(share for share, _ in shares)
    nearest = [part for share, part in shares if share == best]
    return best > 0 and all(part & other and not part & one for part in nearest)


def _compare_negations(claim: ReadText, span: ReadText) -> str | None:
    """Each negation of the one must have its like in the other where they speak of one thing."""
    for negation in claim.negations:
        if negation.waits and span.words & _SEQUENCE:
            continue
        has_denial = bool((span.stems & DENIALS) - claim.stems)
        if not has_denial and not any(_meet(negation, other) for other in span.negations):
            return "a negation that the span has not"
    known = claim.stem_set
    for negation in span.negations:
        if any(_meet(negation, other) for other in claim.negations):
            continue
        if (claim.stems & DENIALS) - span.stems or not negation.scope:
            continue
        if negation.waits and claim.words & _SEQUENCE:
            continue
        shared = sum(known.has(stem) for stem in negation.scope)
        if shared >= max(1, (len(negation.scope) + 1) // 2):
            return "the span's negation is missing"
    return None


def _meet(negation: Negation, other: Negation) -> bool:
    if not negation.scope or not other.scope:
        return True
    known = StemSet(other.scope)
    return any(known.has(stem) for stem in negation.scope)
