from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.imitation.conversations import Conversation, SourcePassage, Turn
from models.imitation.errors import TrainingDataInvalid
from models.imitation.filtering.language import NOT_JUDGED, UNCERTAIN
from models.imitation.filtering.near_duplicates import NearDuplicateRule
from models.imitation.filtering.pipeline import FilterOptions, filter_files, make_rules
from models.imitation.filtering.rules import UNDOABLE, Lengths
from models.imitation.importing.report import Drop, Report

ENGLISH = "Herons stand in shallow water for a long time and wait until a fish comes by."
GERMAN = "Reiher stehen lange im flachen Wasser und warten, bis ein Fisch vorbeikommt."
CODE = "for i in range(10):\n    for j in range(i):\n        print(i, j, max(i, j), min(i, j))"


def chat(question: str, answer: str = "Yes.", *, id_: str = "c", **extra: Any) -> Conversation:
    turns = (Turn("user", question), Turn("assistant", answer, extra))
    return Conversation(id_, turns, {"source": "test"})


def run(
    tmp_path: Path, conversations: list[Conversation], **options: Any
) -> tuple[list[Conversation], Report]:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(c.to_json()) + "\n" for c in conversations))
    report = Report()
    return list(filter_files([path], make_rules(FilterOptions(**options)), report)), report


def test_lengths_are_bounds_of_the_first_question_and_of_every_answer(tmp_path: Path) -> None:
    calls = Conversation(
        "t",
        (
            Turn("user", "a b c"),
            Turn("assistant", "", {"tool_calls": [{"id": "1"}]}),
            Turn("assistant", "x y"),
        ),
        {},
    )
    rows = [
        chat("a b", "x y"),
        chat("a b c", "x y"),
        chat("a b c d e", "x y"),
        chat("b b c", "x"),
        chat("c b c", "x y z"),
        calls,
    ]
    lengths = Lengths(min_question=3, max_question=4, min_answer=2, max_answer=2)
    found, report = run(tmp_path, rows, lengths=lengths, near_threshold=None)
    assert found == [rows[1], rows[5]]
    assert report.dropped == {
        "question too short": 1,
        "question too long": 1,
        "answer too short": 1,
        "answer too long": 1,
    }
    silent = [chat("q1", ""), Conversation("c", (Turn("user", "q2"),), {}), chat("q3", ":-)")]
    found, report = run(tmp_path, silent)
    assert found == [silent[2]]
    assert report.dropped == {"answer too short": 1, "no answer": 1}


def test_words_of_makers_are_no_reason_unless_asked_for(tmp_path: Path) -> None:
    rows = [
        chat("Who are you?", "I am ChatGPT-4, made by OpenAI."),
        chat("Where is Lombardy?", "In Italy, to the north of Bardi."),
    ]
    assert run(tmp_path, rows)[0] == rows
    found, report = run(tmp_path, rows, brand_words=("chatgpt", "bard"))
    assert found == rows[1:]
    assert report.dropped == {"brand word": 1}


def test_keywords_are_whole_words_of_the_user(tmp_path: Path) -> None:
    rows = [
        chat("Draw a map of the moor."),
        chat("What is a profile?", "A file, or an image."),
        chat("Where shall I go to?"),
    ]
    found, report = run(tmp_path, rows, keywords=UNDOABLE)
    assert found == rows[1:2]
    assert report.dropped == {"keyword": 2}


def test_copies_are_dropped_whatever_their_case_and_spacing(tmp_path: Path) -> None:
    passage = SourcePassage("p", "t", "Other ground.")
    rows = [
        chat("What is a heron?", "A bird.", id_="a"),
        chat("What  is a HERON?", "A bird. ", id_="b"),
        chat("What is a heron?", "A fish.", id_="c"),
        Conversation("d", chat("What is a heron?", "A bird.").turns, {}, (passage,)),
        chat("What is a heron?", "A bird.", id_="e", weight=0),
    ]
    found, report = run(tmp_path, rows, near_threshold=None)
    assert [conversation.id for conversation in found] == ["a", "c", "d", "e"]
    assert report.dropped == {"exact duplicate": 1}
    assert len(run(tmp_path, rows, near_threshold=None, drops_duplicates=False)[0]) == 5


def test_near_duplicates_share_most_of_their_wording(tmp_path: Path) -> None:
    rng = random.Random(0)
    answer = " ".join(f"word{rng.randrange(10_000)}" for _ in range(200))
    almost = answer.replace(answer.split()[100], "other")
    half = " ".join([*answer.split()[:100], *(f"new{i}" for i in range(100))])
    rows = [
        chat("What is this?", answer, id_="a"),
        chat("what is this", almost, id_="b"),
        chat("What is this?", half, id_="c"),
    ]
    found, report = run(tmp_path, rows)
    assert [conversation.id for conversation in found] == ["a", "c"]
    assert report.dropped == {"near duplicate": 1}
    grounded = Conversation("g", rows[1].turns, {}, (SourcePassage("p", "t", "x"),))
    assert len(run(tmp_path, [rows[0], grounded])[0]) == 2


def test_the_estimate_of_shared_wording_is_near_the_truth() -> None:
    words = [f"w{i}" for i in range(400)]
    rule = NearDuplicateRule(0.5)
    rule.remember(chat("", " ".join(words[:300])))
    result = rule.check(chat("", " ".join(words[60:360])), Counter())
    assert isinstance(result, Drop)
    # 238 of 358 triples are shared.
    assert float(result.detail.split()[0]) == pytest.approx(238 / 358, abs=0.12)


def test_a_first_question_too_like_a_kept_one_is_dropped(tmp_path: Path) -> None:
    rows = [
        chat("Name three birds of the shore.", "Heron, gull, tern.", id_="a"),
        chat("Name four birds of the shore.", "Heron, gull, tern, plover.", id_="b"),
        chat("Name three fish of the lake.", "Pike, perch, roach.", id_="c"),
    ]
    assert len(run(tmp_path, rows)[0]) == 3
    found, report = run(tmp_path, rows, rouge_limit=0.7)
    assert [conversation.id for conversation in found] == ["a", "c"]
    assert report.dropped == {"similar question": 1}
    # 5 of 6 words each: a limit of exactly that F lets it pass.
    assert len(run(tmp_path, rows, rouge_limit=2 * 5 / 12)[0]) == 3


def test_languages_are_told_apart_and_what_is_too_short_passes_with_a_count(
    tmp_path: Path,
) -> None:
    rows = [
        chat("Tell me about herons.", ENGLISH),
        chat("Was machen Reiher?", GERMAN),
        chat("Merci", "De rien."),
        chat("Print pairs.", f"```python\n{GERMAN}\n```"),
        chat("x", CODE),
    ]
    found, report = run(tmp_path, rows, languages=("en",))
    assert found == [rows[0], *rows[2:]]
    assert report.dropped == {"language": 1}
    assert report.changed[NOT_JUDGED] + report.changed[UNCERTAIN] == 3
    assert report.changed[NOT_JUDGED] >= 2
    assert len(run(tmp_path, rows, languages=("de",), language_threshold=1.0)[0]) == 5
    with pytest.raises(TrainingDataInvalid, match="zz is no known language"):
        make_rules(FilterOptions(languages=("zz",)))


def test_personal_data_is_masked_everywhere_or_drops_the_row(tmp_path: Path) -> None:
    arguments = json.dumps({"to": "jane@example.com"})
    row = Conversation(
        "c",
        (
            Turn("user", "Mail jane@example.com from 10.3.4.17."),
            Turn("assistant", "Done.", {"tool_calls": [{"function": {"arguments": arguments}}]}),
        ),
        {"source": "test", "row": {"owner": "joe@example.com"}},
        (SourcePassage("p", "t", "Jane: jane@example.com"),),
    )
    clean = chat("What is a heron?")
    found, report = run(tmp_path, [row, clean])
    assert found[1] == clean
    assert "@" not in json.dumps(found[0].to_json())
    assert found[0].turns[0].content == "Mail [EMAIL] from [IP]."
    assert found[0].passages[0].text == "Jane: [EMAIL]"
    assert report.changed == {"masked email": 4, "masked ip": 1}
    found, report = run(tmp_path, [row, clean], pii="drop")
    assert found == [clean]
    assert report.dropped == {"personal data": 1}
    assert run(tmp_path, [row, clean], pii="off")[0] == [row, clean]


def test_malformed_lines_are_counted_and_fatal_when_strict(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows = [json.dumps(chat("q").to_json()), "{", '{"id": "x"}', '{"messages": [{"role": "user"}]}']
    path.write_text("\n".join(rows))
    rules = make_rules(FilterOptions())
    report = Report()
    assert len(list(filter_files([path], rules, report))) == 1
    assert [row.number for row in report.malformed] == [2, 3, 4]
    assert report.dropped == {"malformed": 3}
    with pytest.raises(TrainingDataInvalid, match=r"in\.jsonl, line 2"):
        list(filter_files([path], rules, Report(), is_strict=True))


texts = st.sampled_from(
    ["What is a heron?", "what is a heron", "Name a bird.", ENGLISH, GERMAN, "a@b.de", "Draw!", ""]
)


@given(st.lists(st.builds(chat, texts, texts), max_size=10))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None
)
def test_counts_add_up_and_a_second_run_drops_nothing(
    tmp_path: Path, rows: list[Conversation]
) -> None:
    options = FilterOptions(keywords=("draw",), rouge_limit=0.7)
    path, again = tmp_path / "law.jsonl", tmp_path / "again.jsonl"
    path.write_text("".join(json.dumps(c.to_json()) + "\n" for c in rows))
    dropped: list[str] = []

    def on_drop(drop: Drop, file: str, number: int, row: Mapping[str, Any] | None) -> None:
        assert row == rows[number - 1].to_json()
        dropped.append(drop.reason)

    report = Report()
    found = list(filter_files([path], make_rules(options), report, on_drop=on_drop))
    assert report.num_read == len(rows) == report.num_kept + report.dropped.total()
    assert report.num_kept == len(found) == report.num_written
    assert sorted(dropped) == sorted(report.dropped.elements())
    again.write_text("".join(json.dumps(c.to_json()) + "\n" for c in found))
    second = Report()
    assert list(filter_files([again], make_rules(options), second)) == found
    assert not second.dropped
