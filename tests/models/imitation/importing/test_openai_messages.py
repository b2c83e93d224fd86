from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.imitation.conversations import Conversation
from models.imitation.errors import TrainingDataInvalid
from models.imitation.importing.openai_messages import AS_GIVEN, read_turns, to_row
from models.imitation.importing.report import Drop

keys = st.text(max_size=8) | st.sampled_from(["name", "tool_calls", "weight", "refusal", AS_GIVEN])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
contents = (
    st.text(max_size=20)
    | st.none()
    | st.lists(
        st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=9)}) | values,
        max_size=3,
    )
    | values
)
roles = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])
messages = st.builds(
    lambda extra, role, content: {**extra, "role": role, **content},
    st.dictionaries(keys, values, max_size=3),
    roles,
    st.just({}) | st.builds(lambda content: {"content": content}, contents),
)
rows = st.builds(
    lambda extra, found: {**extra, "messages": found},
    st.dictionaries(keys | st.sampled_from(["id", "tools"]), values, max_size=3),
    st.lists(messages, max_size=5).map(
        lambda found: [*found, {"role": "assistant", "content": "a"}]
    ),
)


def round_trip(row: dict[str, Any]) -> dict[str, Any]:
    """Row to conversation to Mynah's file format and back, and to a row again."""
    turns = read_turns(row)
    assert not isinstance(turns, Drop)
    rest = {key: value for key, value in row.items() if key != "messages"}
    conversation = Conversation("x", turns, {"format": "openai", "row": rest})
    stored = json.loads(json.dumps(conversation.to_json()))
    return to_row(Conversation.from_json(stored))


@given(rows)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_row_comes_back_as_it_was(row: dict[str, Any]) -> None:
    assert round_trip(row) == row


def test_tool_calls_names_and_parts_come_back_and_can_be_used() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    row = {
        "messages": [
            {"role": "system", "content": "s", "name": "boss"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "7", "tool_call_id": "c1"},
            {"role": "function", "content": "8", "name": "old"},
            {"role": "assistant", "content": "15", "weight": 0},
        ],
        "tools": [{"type": "function"}],
        "parallel_tool_calls": False,
    }
    assert round_trip(row) == row
    turns = read_turns(row)
    assert not isinstance(turns, Drop)
    assert [turn.content for turn in turns] == ["s", "a", "", "7", "8", "15"]
    assert turns[2].extra["tool_calls"] == [call]
    assert turns[4].role == "tool"
    assert turns[5].extra == {"weight": 0}


@pytest.mark.parametrize(
    "row", [{}, {"messages": None}, {"messages": ["x"]}, {"messages": [{"content": "x"}]}]
)
def test_rows_of_another_form_are_malformed(row: dict[str, Any]) -> None:
    with pytest.raises(TrainingDataInvalid):
        read_turns(row)


def test_rows_without_an_answer_or_with_an_unknown_role_are_dropped() -> None:
    assert read_turns({"messages": [{"role": "user", "content": "q"}]}) == Drop("no answer")
    found = read_turns({"messages": [{"role": "critic", "content": "q"}]})
    assert found == Drop("unknown role", "critic")
