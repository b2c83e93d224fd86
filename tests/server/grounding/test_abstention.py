"""When an answer is refused: signals, their weighing, and calibration on labelled questions."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.types import Document, Hit, Passage
from models.text.sentences import Sentence
from server.errors import CalibrationInvalid
from server.grounding.abstention import (
    FOR_ANY_MODEL,
    FOR_EXCERPTS,
    READ_FOR_ANY_MODEL,
    READ_FOR_EXCERPTS,
    SIGNAL_NAMES,
    Abstention,
    Signals,
    read_signals,
)
from server.grounding.calibration import (
    FILE_NAME,
    MIN_FOR_WEIGHTS,
    Calibration,
    Labelled,
    calibrate,
    choose_threshold,
    fingerprint,
    fit,
    load_calibration,
)
from server.grounding.candidates import Candidate

DOCUMENT = Document("doc_1", "hr", "a.md", "text/markdown", "", 0, 1, 0, None, (), {})
CHANCES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60).filter(
    lambda drawn: len({is_answerable for _, is_answerable in drawn}) == 2
)


def make_candidate(text: str, *, meaning: float = 0.5, words: float = 0.5) -> Candidate:
    passage = Passage(1, "doc_1", 0, 0, len(text), (), None, 10, text)
    hit = Hit(passage, DOCUMENT, 1.0, 1, 0.5, 1)
    return Candidate(
        hit, Sentence(0, len(text), "prose", text), 0, len(text), "", 0.5, meaning, words
    )


def draw(num: int, seed: int, *, answerable: float = 0.7) -> list[Labelled]:
    """Questions whose `meaning` tells somewhat, and `refusal` much, whether they have an answer."""
    rng = random.Random(seed)
    drawn = []
    for _ in range(num):
        is_answerable = rng.random() < answerable
        side = 1 if is_answerable else -1
        drawn.append(
            Labelled(
                Signals(
                    meaning=rng.gauss(0.5 + 0.03 * side, 0.1), refusal=rng.gauss(-1.5 * side, 1.0)
                ),
                is_answerable,
            )
        )
    return drawn


def test_signals_are_of_the_best_and_nothing_found_is_none() -> None:
    candidates = [
        make_candidate("A lost badge costs 12 euros.", meaning=0.4, words=0.9),
        make_candidate("Badges are white.", meaning=0.6, words=0.3),
    ]
    signals = read_signals("What does a lost badge cost?", candidates)
    assert (signals.meaning, signals.words, signals.passage) == (0.6, 0.9, 0.5)
    assert signals.refusal == 0.0
    assert read_signals("What does a badge cost?", []) == Signals()


def test_words_that_stand_nowhere_lower_what_is_covered() -> None:
    candidates = [make_candidate("A lost badge costs 12 euros."), make_candidate("Keys are free.")]
    covered = [
        read_signals(question, candidates).covered
        for question in ("Lost badge costs?", "Lost badge costs in Antwerp?", "Chess in Oslo?")
    ]
    assert covered[0] == 1.0
    assert covered[0] > covered[1] > covered[2] == 0.0


@given(st.floats(-400, 0))
@settings(deadline=None)
def test_a_refusals_log_odds_follow_its_chance_and_stay_finite(logprob: float) -> None:
    candidates = [make_candidate("A badge.")]
    signals = read_signals("Badge?", candidates, logprob)
    assert abs(signals.refusal) <= 8.0
    likelier = read_signals("Badge?", candidates, logprob / 2)
    assert likelier.refusal >= signals.refusal
    assert (signals.refusal > 0) == (math.exp(logprob) > 0.5)


@given(st.dictionaries(st.sampled_from(SIGNAL_NAMES), st.floats(-1e3, 1e3)), st.floats(-1e3, 1e3))
@settings(deadline=None)
def test_the_weighed_chance_is_one(weights: dict[str, float], bias: float) -> None:
    signals = Signals(0.5, 0.5, 0.5, 0.5, 0.5, 0.1, 8.0)
    assert 0.0 <= Abstention(weights, bias, 0.5).weigh(signals) <= 1.0


def test_the_defaults_rise_with_what_speaks_for_an_answer() -> None:
    near = Signals(0.8, 0.8, 0.9, 1.0, 1.0, 0.2, -4.0, 2.0)
    far = Signals(0.2, 0.2, 0.1, 0.2, 0, 0, 4.0, -2.0)
    for default in (FOR_EXCERPTS, FOR_ANY_MODEL, READ_FOR_EXCERPTS, READ_FOR_ANY_MODEL):
        assert default.weigh(near) > default.min_evidence > default.weigh(far)
    # Other models were not trained to refuse, so they say nothing of it.
    assert "refusal" not in {*FOR_ANY_MODEL.weights, *READ_FOR_ANY_MODEL.weights}


@given(CHANCES, st.floats(0, 0.9))
@settings(deadline=None)
def test_a_threshold_keeps_its_price_and_is_the_highest_that_does(
    drawn: list[tuple[float, bool]], max_false: float
) -> None:
    examples = [Labelled(Signals(), is_answerable) for _, is_answerable in drawn]
    chances = [chance for chance, _ in drawn]
    found = choose_threshold(chances, examples, max_false=max_false)
    assert found.answerable <= max_false
    higher = math.nextafter(found.min_evidence, 2.0)
    yes = [chance for chance, is_answerable in drawn if is_answerable]
    assert sum(chance < higher for chance in yes) / len(yes) > max_false


def test_a_fit_finds_what_tells_and_its_figures_hold_on_others() -> None:
    found, refusals = fit(draw(600, 1), max_false=0.1)
    assert found.weights["refusal"] < 0 < found.weights["meaning"]
    others = draw(600, 2)
    chances = [found.weigh(example.signals) for example in others]
    refused = [c < found.min_evidence for c, e in zip(chances, others, strict=True)]
    false = [r for r, e in zip(refused, others, strict=True) if e.is_answerable]
    right = [r for r, e in zip(refused, others, strict=True) if not e.is_answerable]
    # Four standard errors of these shares.
    assert sum(false) / len(false) == pytest.approx(refusals.answerable, abs=0.06)
    assert sum(right) / len(right) == pytest.approx(refusals.unanswerable, abs=0.14)


def test_few_labels_move_the_threshold_alone() -> None:
    few = draw(40, 3)
    chosen, refusals = calibrate(few, FOR_EXCERPTS, max_false=0.1)
    assert chosen == replace(FOR_EXCERPTS, min_evidence=chosen.min_evidence)
    assert refusals.answerable <= 0.1
    many = draw(8 * MIN_FOR_WEIGHTS, 3)
    assert calibrate(many, FOR_EXCERPTS, max_false=0.1)[0].weights != FOR_EXCERPTS.weights


def test_labels_of_one_kind_are_refused() -> None:
    with pytest.raises(CalibrationInvalid, match="0 unanswerable"):
        calibrate(draw(40, 1, answerable=1.0), FOR_EXCERPTS, max_false=0.1)


def test_what_is_kept_is_read_again_and_damage_is_told(tmp_path: Path) -> None:
    assert load_calibration(tmp_path) is None
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF" + bytes(3 * 2**20))
    chosen, refusals = calibrate(draw(40, 3), FOR_EXCERPTS, max_false=0.1)
    kept = Calibration(chosen, fingerprint(model), refusals, 40)
    path = kept.save(tmp_path)
    assert asdict(load_calibration(tmp_path) or kept) == asdict(kept)
    model.write_bytes(b"GGUF" + bytes(3 * 2**20) + b"!")
    assert fingerprint(model) != kept.model_fingerprint
    content = json.loads(path.read_text())
    content["abstention"]["weights"] = {"mood": 1.0}
    for text in ("{", "[]", json.dumps(content), json.dumps({**content, "format": "other"})):
        path.write_text(text)
        with pytest.raises(CalibrationInvalid, match=FILE_NAME):
            load_calibration(tmp_path)
