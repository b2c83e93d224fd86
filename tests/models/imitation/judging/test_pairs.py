from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.imitation.errors import RunDamaged, TrainingDataInvalid
from models.imitation.judging.answers import Answered
from models.imitation.judging.pairs import (
    HIDDEN,
    PAIRS_NAME,
    Comparison,
    Role,
    keep_comparison,
    make_comparison,
    read_comparison,
)
from tests.models.imitation.judging.comparisons import BASELINE, SYSTEM, compare, make_answers


def answer_both(system: str, baseline: str = "No.") -> dict[Role, dict[str, Answered]]:
    return {
        "system": {"q": Answered("Why?", system)},
        "baseline": {"q": Answered("Why?", baseline)},
    }


def name_both(system: str, baseline: str = "other") -> dict[Role, str]:
    return {"system": system, "baseline": baseline}


# Sides


def test_sides_are_drawn_for_each_pair_about_evenly() -> None:
    comparison = compare(400)
    num_first = sum(pair.a == "system" for pair in comparison.pairs)
    # Six standard deviations of 400 fair coins: the seed is fixed, and another would do too.
    assert abs(num_first - 200) <= 60
    assert all(set(pair.sides.values()) == {"system", "baseline"} for pair in comparison.pairs)


def test_a_pair_keeps_its_side_whatever_else_is_compared_and_not_with_another_seed() -> None:
    sides = {pair.source_id: pair.a for pair in compare(100).pairs}
    assert {pair.source_id: pair.a for pair in compare(60).pairs}.items() <= sides.items()
    assert {pair.source_id: pair.a for pair in compare(100, seed=1).pairs} != sides


def test_order_does_not_follow_the_files() -> None:
    comparison = compare(50)
    answers: dict[Role, dict[str, Answered]] = {
        "system": dict(reversed(make_answers("system", 50).items())),
        "baseline": make_answers("baseline", 50),
    }
    assert make_comparison(name_both(SYSTEM, BASELINE), answers) == comparison
    order = [pair.source_id for pair in comparison.pairs]
    assert order != sorted(order)
    assert order != [f"q{number}" for number in range(50)]


def test_a_limit_draws_the_first_of_the_same_order() -> None:
    assert compare(50, limit=7).pairs == compare(50).pairs[:7]


def test_what_is_shown_stands_on_the_sides_that_are_kept() -> None:
    comparison = compare(20)
    for pair in comparison.pairs:
        shown = comparison.show(pair)
        assert ("pomelo" in shown.a) == (pair.sides["A"] == "system")
        assert ("pomelo" in shown.b) == (pair.sides["B"] == "system")


def test_ids_are_opaque() -> None:
    comparison = compare(20)
    assert len(comparison.by_id) == 20
    for pair in comparison.pairs:
        assert pair.source_id not in pair.id
        assert set(pair.id) <= set("0123456789abcdef")


# Names


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("quetzal-net", "I am Quetzal-Net.", f"I am {HIDDEN}."),
        ("quetzal-net", "QUETZAL NET, quetzal_net, quetzalnet", ", ".join([HIDDEN] * 3)),
        ("quetzal-net", "**Quetzal-net** and _quetzal-net_", f"**{HIDDEN}** and _{HIDDEN}_"),
        ("quetzal net", "Ask quetzal-net's maker.", f"Ask {HIDDEN}'s maker."),
        ("owner/quetzal-7b", "owner/quetzal-7b is Quetzal 7B", f"{HIDDEN} is {HIDDEN}"),
        ("base", "The database is basic; Base is not.", f"The database is basic; {HIDDEN} is not."),
        ("a.b", "acb, a.b", f"acb, {HIDDEN}"),
        ("c++", "C++ (c++)", f"{HIDDEN} ({HIDDEN})"),
        ("--", "One -- two", "One -- two"),
    ],
)
def test_names_are_hidden_and_parts_of_words_are_not(name: str, text: str, shown: str) -> None:
    comparison = make_comparison(name_both(name), answer_both(text))
    pair = comparison.pairs[0]
    assert comparison.hide(text) == shown
    assert shown in (comparison.show(pair).a, comparison.show(pair).b)
    assert comparison.num_hidden == (text != shown)


def test_further_words_are_hidden_in_the_question_too() -> None:
    answers: dict[Role, dict[str, Answered]] = answer_both("Acme made me.")
    comparison = make_comparison(
        name_both("x1"), answers, questions={"q": "Who is ACME?"}, hidden=("acme",)
    )
    shown = comparison.show(comparison.pairs[0])
    assert shown.question == f"Who is {HIDDEN}?"
    assert "acme" not in f"{shown}".casefold()


# Not letters that case folding makes several of: those no pattern finds.
NAMES = st.text(st.sampled_from("abcdefgXYZ0189-_ ./+"), min_size=1, max_size=12).filter(
    lambda name: any(char.isalnum() for char in name)
)


@given(NAMES, st.sampled_from(["", "(", "**", "_", "\n", "»"]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_name_is_left_where_it_stands_alone(name: str, mark: str, is_upper: bool) -> None:
    name = name.strip("-_ ")
    written = name.upper() if is_upper else name
    comparison = make_comparison(
        name_both(name, "?"), answer_both(f"So says {mark}{written}{mark}!")
    )
    assert comparison.hide(comparison.pairs[0].system) == f"So says {mark}{HIDDEN}{mark}!"


# Questions


def test_unpaired_answers_are_counted() -> None:
    answers = answer_both("Yes.")
    answers["system"]["only"] = Answered("?", "x")
    answers["baseline"]["other"] = Answered("?", "x")
    answers["baseline"]["more"] = Answered("?", "x")
    comparison = make_comparison(name_both("a1"), answers)
    assert (len(comparison.pairs), comparison.num_unpaired) == (1, 3)


def test_a_question_is_taken_from_where_it_is_known() -> None:
    answers = answer_both("Yes.")
    answers["system"]["q"] = Answered(None, "Yes.")
    assert make_comparison(name_both("a1"), answers).pairs[0].question == "Why?"
    given = make_comparison(name_both("a1"), answers, questions={"q": "How?"})
    assert given.pairs[0].question == "How?"
    # White space alone makes no other question.
    answers["system"]["q"] = Answered(" Why?\n", "Yes.")
    assert make_comparison(name_both("a1"), answers).pairs[0].question == " Why?\n"


def _differing() -> Comparison:
    answers = answer_both("Yes.")
    answers["system"]["q"] = Answered("How?", "Yes.")
    return make_comparison(name_both("a1"), answers)


def _unasked() -> Comparison:
    unasked = {"q": Answered(None, "Yes.")}
    return make_comparison(name_both("a1"), {"system": unasked, "baseline": unasked})


def _unshared() -> Comparison:
    answers = answer_both("Yes.")
    answers["system"] = {"p": Answered("Why?", "Yes.")}
    return make_comparison(name_both("a1"), answers)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_differing, "answer different questions under the id q"),
        (_unasked, "neither file says what q asks"),
        (_unshared, "no id stands in both files"),
        (lambda: make_comparison(name_both("x", "x"), answer_both("Yes.")), "both systems are"),
    ],
)
def test_what_cannot_be_compared_is_refused(make: Callable[[], Comparison], message: str) -> None:
    with pytest.raises(TrainingDataInvalid, match=message):
        make()


# The file


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda t: t.isprintable()),
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]))] * 2),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_a_comparison_is_read_as_it_was_kept(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, tuple[str, str]], seed: int
) -> None:
    answers: dict[Role, dict[str, Answered]] = {
        "system": {id_: Answered("?", first) for id_, (first, _) in rows.items()},
        "baseline": {id_: Answered("?", second) for id_, (_, second) in rows.items()},
    }
    comparison = make_comparison(name_both("a1"), answers, seed=seed, hidden=("w",))
    folder = tmp_path_factory.mktemp("kept")
    keep_comparison(folder, comparison)
    assert read_comparison(folder) == comparison
    # The sides are part of the file: they would be the same if another version drew others.
    lines = (folder / PAIRS_NAME).read_text(encoding="utf-8").removesuffix("\n").split("\n")[1:]
    assert [json.loads(line)["sides"]["A"] for line in lines] == [p.a for p in comparison.pairs]


def test_other_pairs_do_not_take_a_folder_over(tmp_path: Path) -> None:
    keep_comparison(tmp_path, compare(5))
    before = (tmp_path / PAIRS_NAME).read_bytes()
    keep_comparison(tmp_path, compare(5))
    for another in (compare(6), compare(5, seed=1), compare(5, hidden=("w",))):
        with pytest.raises(RunDamaged, match="name another folder"):
            keep_comparison(tmp_path, another)
    assert (tmp_path / PAIRS_NAME).read_bytes() == before


def test_exchanged_sides_in_the_file_are_what_is_shown(tmp_path: Path) -> None:
    comparison = compare(1)
    keep_comparison(tmp_path, comparison)
    path = tmp_path / PAIRS_NAME
    header, line = path.read_text().splitlines()
    row = json.loads(line)
    row["sides"] = {"A": row["sides"]["B"], "B": row["sides"]["A"]}
    path.write_text(f"{header}\n{json.dumps(row)}\n")
    exchanged = read_comparison(tmp_path)
    before, after = comparison.show(comparison.pairs[0]), exchanged.show(exchanged.pairs[0])
    assert (after.a, after.b) == (before.b, before.a)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]\n", '{"format": 9}\n', '{"format": 1}\n'],
)
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / PAIRS_NAME).write_text(content)
    with pytest.raises(TrainingDataInvalid, match=f"{PAIRS_NAME} holds no pairs"):
        read_comparison(tmp_path)


def test_a_pair_with_one_system_on_both_sides_is_refused(tmp_path: Path) -> None:
    keep_comparison(tmp_path, compare(1))
    path = tmp_path / PAIRS_NAME
    path.write_text(
        path.read_text()
        .replace('"B": "baseline"', '"B": "system"')
        .replace('"A": "baseline"', '"A": "system"')
    )
    with pytest.raises(TrainingDataInvalid, match="not a choice of sides"):
        read_comparison(tmp_path)


def test_an_empty_folder_says_how_pairs_are_made(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataInvalid, match="--system FILE and --baseline FILE"):
        read_comparison(tmp_path)
