from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.imitation.judging.agreement import measure_agreement, measure_kappa
from models.imitation.judging.judgements import Outcome
from models.imitation.judging.results import OUTCOMES

CHOSEN = st.lists(st.tuples(st.sampled_from(OUTCOMES), st.sampled_from(OUTCOMES)), min_size=1)


def test_kappa_is_what_cohen_makes_of_a_table_of_fifty() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: p_o = 35/50; p_e = (25·30 + 25·20)/2500 = 0.5.
    a = ["win"] * 25 + ["loss"] * 25
    b = ["win"] * 20 + ["loss"] * 5 + ["win"] * 10 + ["loss"] * 15
    assert measure_kappa(a, b) == pytest.approx((0.7 - 0.5) / (1 - 0.5))


def test_kappa_of_four_choices_by_hand() -> None:
    # The same on 3 of 6: p_o = 1/2. Of a: win 2, loss 2, tie 1, both bad 1; of b: win 3, loss 1,
    # tie 2: p_e = (2·3 + 2·1 + 1·2)/36 = 10/36. (18 - 10)/(36 - 10) = 4/13.
    a = ["win", "win", "loss", "loss", "tie", "both_bad"]
    b = ["win", "win", "loss", "tie", "win", "tie"]
    assert measure_kappa(a, b) == pytest.approx(4 / 13)


def test_raters_at_odds_have_a_negative_kappa_and_one_choice_alone_has_none() -> None:
    # p_o = 0, p_e = 2·(1·1)/4.
    assert measure_kappa(["win", "loss"], ["loss", "win"]) == pytest.approx(-1)
    assert measure_kappa(["tie"] * 5, ["tie"] * 5) is None
    # p_e = 1/2 = p_o: no better than chance.
    assert measure_kappa(["tie", "tie"], ["tie", "win"]) == 0


@given(CHOSEN)
def test_kappa_is_symmetric_and_1_only_for_the_same_choices(
    chosen: list[tuple[Outcome, Outcome]],
) -> None:
    a, b = [x for x, _ in chosen], [y for _, y in chosen]
    kappa = measure_kappa(a, b)
    assert kappa == measure_kappa(b, a)
    assert kappa is None or -1 <= kappa <= 1
    assert (kappa == 1) == (a == b and len(set(a)) > 1)
    assert (kappa is None) == (a == b and len(set(a)) == 1)


def test_only_shared_items_count_and_every_pair_of_raters_is_told() -> None:
    ana: dict[str, Outcome] = {"1": "win", "2": "loss", "3": "tie"}
    ben: dict[str, Outcome] = {"2": "loss", "3": "win", "4": "win"}
    cy: dict[str, Outcome] = {"1": "win", "2": "loss"}
    agreement = measure_agreement({"Cy": cy, "Ana": ana, "Ben": ben, "Dee": {"9": "tie"}})
    assert agreement is not None
    # Ana and Ben on 2 and 3: p_o = 1/2, p_e = 1/4 (loss alone is common), kappa (2-1)/(4-1).
    assert agreement.to_json() == {
        "raw": pytest.approx((1 / 2 + 1 + 1) / 3),
        "kappa": pytest.approx((1 / 3 + 1) / 2),
        "pairs": [
            {"raters": ["Ana", "Ben"], "num_items": 2, "raw": 0.5, "kappa": pytest.approx(1 / 3)},
            {"raters": ["Ana", "Cy"], "num_items": 2, "raw": 1.0, "kappa": 1.0},
            {"raters": ["Ben", "Cy"], "num_items": 1, "raw": 1.0, "kappa": None},
        ],
    }


def test_one_rater_or_no_shared_item_has_no_agreement() -> None:
    assert measure_agreement({"Ana": {"1": "win"}}) is None
    assert measure_agreement({"Ana": {"1": "win"}, "Ben": {"2": "win"}}) is None
