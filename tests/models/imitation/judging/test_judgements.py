from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.imitation.errors import RunDamaged, TrainingDataInvalid
from models.imitation.judging.judgements import (
    CHOICES,
    JUDGEMENTS_NAME,
    Choice,
    Judgement,
    JudgementLog,
    choice_of,
)
from models.imitation.judging.pairs import Sides

PLAIN: Sides = {"A": "system", "B": "baseline"}
EXCHANGED: Sides = {"A": "baseline", "B": "system"}


def say(item: str, choice: Choice | None = "A", rater: str = "Ana") -> Judgement:
    return Judgement(item, rater, choice, PLAIN, 1)


@pytest.mark.parametrize(
    ("choice", "plain", "exchanged"),
    [
        ("A", "win", "loss"),
        ("B", "loss", "win"),
        ("tie", "tie", "tie"),
        ("both_bad", "both_bad", "both_bad"),
        (None, None, None),
    ],
)
def test_a_choice_means_what_the_sides_make_of_it(
    choice: Choice | None, plain: str | None, exchanged: str | None
) -> None:
    assert Judgement("i", "r", choice, PLAIN, 0).outcome == plain
    assert Judgement("i", "r", choice, EXCHANGED, 0).outcome == exchanged


def test_a_role_is_chosen_on_its_side() -> None:
    assert (choice_of("system", PLAIN), choice_of("baseline", PLAIN)) == ("A", "B")
    assert (choice_of("system", EXCHANGED), choice_of("baseline", EXCHANGED)) == ("B", "A")
    assert choice_of(None, PLAIN) == choice_of(None, EXCHANGED) == "tie"


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from([*CHOICES, "undo"]))))
@settings(max_examples=100, deadline=None)
def test_what_stands_is_what_was_not_taken_back(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    model: dict[str, str] = {}
    num_lines = 0
    with JudgementLog(folder) as log:
        for item, act in acts:
            if act == "undo":
                undone = log.undo("Ana", 2)
                last = model.popitem() if model else None
                assert (undone and (undone.item, undone.choice)) == last
                num_lines += last is not None
                continue
            choice = next(choice for choice in CHOICES if choice == act)
            assert log.add(say(item, choice)) == (item not in model)
            num_lines += item not in model
            model.setdefault(item, act)
        now = {item: j.choice for item, j in log.standing_of("Ana").items()}
    assert list(now.items()) == list(model.items())
    # Nothing is changed in the file, so that all of it can be told from it again.
    assert (folder / JUDGEMENTS_NAME).read_bytes().count(b"\n") == num_lines
    with JudgementLog(folder) as log:
        assert {item: j.choice for item, j in log.standing_of("Ana").items()} == now


def test_undo_concerns_one_rater_and_goes_back_step_by_step(tmp_path: Path) -> None:
    with JudgementLog(tmp_path) as log:
        for judgement in (say("x"), say("y"), say("x", "tie", "Ben")):
            assert log.add(judgement)
        assert [log.undo("Ana", 2), log.undo("Ana", 3), log.undo("Ana", 4)] == [
            say("y"),
            say("x"),
            None,
        ]
        assert log.standing() == {"Ben": {"x": say("x", "tie", "Ben")}}


def test_a_model_without_a_verdict_stands_as_an_error(tmp_path: Path) -> None:
    judgement = Judgement("x", "model:m", None, PLAIN, 1, judge={"flipped": None})
    with JudgementLog(tmp_path) as log:
        assert log.add(judgement)
        assert not log.add(judgement)
    with JudgementLog(tmp_path) as log:
        assert log.standing() == {"model:m": {"x": judgement}}


def test_two_writers_see_each_other_and_lose_nothing(tmp_path: Path) -> None:
    logs = [JudgementLog(tmp_path) for _ in range(3)]
    kept: list[tuple[int, str]] = []

    def add(number: int) -> None:
        judgements = [say(f"{item}", "A" if number else "B") for item in range(40)]
        kept.extend((number, said.item) for said in judgements if logs[number].add(said))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(len(logs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for log in logs:
        assert set(log.standing_of("Ana")) == {f"{item}" for item in range(40)}
        log.close()
    # Of each item one of the writers alone was told that its judgement is kept.
    assert sorted(item for _, item in kept) == sorted(f"{item}" for item in range(40))
    assert (tmp_path / JUDGEMENTS_NAME).read_bytes().count(b"\n") == 40


@given(st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_anywhere_keeps_every_whole_line(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = folder / JUDGEMENTS_NAME
    with JudgementLog(folder) as log:
        for item in "xyz":
            log.add(say(item))
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    num_whole = whole[:length].count(b"\n")
    with JudgementLog(folder) as log:
        assert list(log.standing_of("Ana")) == list("xyz"[:num_whole])
        for item in "xyz"[num_whole:]:
            assert log.add(say(item))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        json.dumps({**say("x").to_json(), "choice": "C"}),
        json.dumps({**say("x").to_json(), "sides": {"A": "system", "B": "system"}}),
        json.dumps({**say("x").to_json(), "judge": "m"}),
    ],
)
def test_a_line_that_is_no_judgement_is_named_each_time(line: str, tmp_path: Path) -> None:
    with JudgementLog(tmp_path) as log:
        log.add(say("x"))
        with (tmp_path / JUDGEMENTS_NAME).open("a") as file:
            file.write(f"{json.dumps(say('y').to_json())}\n{line}\n")
        for _ in range(2):
            with pytest.raises(TrainingDataInvalid, match=rf"{JUDGEMENTS_NAME}, line 3: "):
                log.standing()
    with pytest.raises(TrainingDataInvalid, match=rf"{JUDGEMENTS_NAME}, line 3: "):
        JudgementLog(tmp_path)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDamaged, match=r"cannot write .*No such file"):
        JudgementLog(tmp_path / "none")
