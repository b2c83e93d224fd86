"""Schemas as grammars: what is written validates, what is plain is written, the rest is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from models.engine_settings import EngineSettings
from models.errors import GrammarInvalid
from models.grammar import Grammar
from models.loaded_model import LoadedModel
from models.structured.schema import ANNOTATIONS, grammar_of_any_object, grammar_of_schema
from models.vocabulary import Vocabulary
from tests.models.structured.speaking import accepts, say
from tests.models.structured.validator import is_valid


@pytest.fixture(scope="module")
def vocabulary(tiny_gguf: Path) -> Iterator[Vocabulary]:
    model = LoadedModel(EngineSettings(path=tiny_gguf))
    yield model.vocabulary
    model.free()


def written(schema: dict[str, Any]) -> str | None:
    """The grammar, or None where the schema is refused; anything else fails the test."""
    try:
        return grammar_of_schema(schema)
    except GrammarInvalid as error:
        message = error.message
    assert "\n" not in message
    return None


NAMES = st.sampled_from(["a", "ab", "b", 'q"uo\\te', "é", "", "$ref", "x/y~z"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, "a", "ab", 'é"\\\n']),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
BOUNDS = st.integers(-200, 200) | st.sampled_from([0.5, -0.25, 1.125, 1e6])


@st.composite
def strings(draw: Any) -> dict[str, Any]:
    low = draw(st.integers(0, 4))
    limits: dict[str, Any] = draw(
        st.sampled_from(
            [
                {},
                {"minLength": low, "maxLength": low + draw(st.integers(0, 5))},
                {"pattern": draw(st.sampled_from(PATTERNS))},
                {"format": draw(st.sampled_from(["date", "time", "date-time"]))},
            ]
        )
    )
    return limits | {"type": "string"}


@st.composite
def numbers(draw: Any) -> dict[str, Any]:
    low = draw(BOUNDS)
    schema: dict[str, Any] = {"type": draw(st.sampled_from(["integer", "number"]))}
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        high = low + draw(st.integers(2, 3000))
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = high
    return schema


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    @st.composite
    def objects(draw: Any) -> dict[str, Any]:
        properties = draw(st.dictionaries(NAMES, inner, max_size=4))
        required = [name for name in properties if draw(st.booleans())]
        schema = {"type": "object", "properties": properties, "required": required}
        others = draw(st.sampled_from([None, False, True]) | inner)
        return schema if others is None else schema | {"additionalProperties": others}

    @st.composite
    def arrays(draw: Any) -> dict[str, Any]:
        low = draw(st.integers(0, 3))
        schema: dict[str, Any] = {"type": "array", "minItems": low}
        if draw(st.booleans()):
            schema["maxItems"] = low + draw(st.integers(0, 3))
        if draw(st.booleans()):
            schema["prefixItems"] = draw(st.lists(inner, min_size=1, max_size=3))
        if draw(st.booleans()):
            schema["items"] = draw(inner)
        return schema

    unions = st.builds(
        lambda kind, branches: {kind: branches},
        st.sampled_from(["anyOf", "oneOf"]),
        st.lists(inner, min_size=1, max_size=3),
    )
    refs = st.builds(
        lambda schema: {"$ref": "#/$defs/it", "$defs": {"it": schema}},
        inner,
    )
    return objects() | arrays() | unions | refs


PATTERNS = [
    "^[a-c]{2,4}$",
    "^(?:ab|c)+\\d?$",
    "b",
    "^x|y$",
    '^["\\\\\\n]+$',
    "^[^a-z]{1,3}$",
    "^\\w+\\s\\W\\D?$",
    "^.é?\\.$",
    "^$",
    "^a{2}b{0,3}?c*$",
]
LEAVES = (
    strings()
    | numbers()
    | st.sampled_from([{}, {"type": "null"}, {"type": ["boolean", "integer"]}])
    | st.builds(lambda value: {"const": value}, VALUES)
    | st.builds(lambda values: {"enum": values}, st.lists(VALUES, min_size=1, max_size=4))
)
SCHEMAS = st.recursive(LEAVES, containers, max_leaves=6)


def hoist(schema: Any, root: dict[str, Any]) -> Any:
    """The schema with its definitions at the root, where '$ref' looks for them."""
    if isinstance(schema, list):
        return [hoist(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$defs" in schema and isinstance(schema.get("$ref"), str):
        name = f"d{len(root)}"
        root[name] = None
        root[name] = hoist(schema["$defs"]["it"], root)
        return {"$ref": f"#/$defs/{name}"}
    return {
        key: value if key in ("const", "enum") else hoist(value, root)
        for key, value in schema.items()
    }


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(SCHEMAS, st.integers(0, 2**32 - 1))
def test_what_a_schema_s_grammar_says_validates(
    vocabulary: Vocabulary, schema: dict[str, Any], seed: int
) -> None:
    definitions: dict[str, Any] = {}
    schema = hoist(schema, definitions)
    if definitions:
        schema = schema | {"$defs": definitions}
    grammar = written(schema)
    assume(grammar is not None)
    assert grammar is not None
    text, is_whole = say(grammar, vocabulary, seed)
    if is_whole:
        assert is_valid(json.loads(text), schema), text


PLAIN: list[tuple[Any, list[Any], list[Any]]] = [
    ({}, [None, 1.5, "a", [1, {"b": []}], {"é": True}], []),
    ({"type": "string"}, ["", 'a"\\b', "\n\t", "𝄞"], [1, None]),
    ({"type": "integer"}, [0, -7, 123456], [1.5, "1"]),
    ({"type": "integer", "minimum": 5, "maximum": 120}, [5, 9, 10, 99, 100, 120], [4, 121, 55.5]),
    ({"type": "number", "minimum": 0, "maximum": 1}, [0, 1, 0.5, 0.125, 1.0], [1.001, -0.5, 2]),
    ({"type": "number", "exclusiveMinimum": -2}, [-1.999, 0.25, 0, 70000], [-2, -2.5]),
    ({"type": ["string", "null"]}, ["a", None], [1]),
    ({"enum": [1, "1", None, {"a": [True]}]}, [1, "1", None, {"a": [True]}], [2, True]),
    ({"const": 'a"b\\c'}, ['a"b\\c'], ["a"]),
    ({"type": "object"}, [{}, {"a": 1, "b": {}}], [[], None]),
    (
        {"properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]},
        [{"a": 1}, {"a": 1, "b": 2}],
        [{}, {"b": 1}, {"a": "x"}],
    ),
    (
        {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
        [{}, {"a": "x"}, {"a": 1, "aa": 2}, {"b": 3, "c": 4}, {"": 1}],
        [{"b": "x"}],
    ),
    ({"type": "object", "additionalProperties": False}, [{}], [{"a": 1}]),
    ({"type": "object", "required": ["z"]}, [{"z": 1}], [{}]),
    (
        {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        [[True], [True, False, True]],
        [[], [True] * 4, [1]],
    ),
    (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
        [[1, "a"]],
        [[1, 2], [1, "a", 3]],
    ),
    ({"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}, [3, None], ["a"]),
    ({"type": "string", "anyOf": [{"minLength": 2}, {"const": "b"}]}, [], []),
    ({"type": "string", "maxLength": 450}, ["", "a" * 99, "b" * 100, "c" * 450], ["d" * 451]),
    ({"type": "string", "minLength": 230, "maxLength": 230}, ["a" * 230], ["a" * 229, "a" * 231]),
    ({"type": "string", "format": "date"}, ["2024-02-28", "1999-12-31"], ["2024-13-01", "x"]),
    ({"type": "string", "format": "uuid"}, ["0" * 8 + "-1111-2222-3333-" + "4" * 12], ["1"]),
    ({"type": "string", "format": "email"}, ["a.b@c-d.org"], ["@c.org", "a"]),
    ({"type": "string", "format": "ipv4"}, ["192.168.0.255"], ["256.1.1.1"]),
    ({"type": "string", "format": "uri"}, ["https://a.org/b/c.html"], ["a b"]),
    ({"type": "string", "pattern": "^\\d{3}-[A-Z]+$"}, ["123-AB"], ["12-AB", "123-"]),
    ({"type": "string", "pattern": "b|^c"}, ["abc", "b", "cat"], ["dac"]),
]


@pytest.mark.parametrize(("schema", "right", "wrong"), PLAIN)
def test_plain_values_can_be_said_and_wrong_ones_cannot(
    vocabulary: Vocabulary, schema: Any, right: list[Any], wrong: list[Any]
) -> None:
    if not right:
        with pytest.raises(GrammarInvalid):
            grammar_of_schema(schema)
        return
    grammar = grammar_of_schema(schema)
    for value in right:
        assert accepts(grammar, json.dumps(value, ensure_ascii=False), vocabulary), value
    for value in wrong:
        assert not accepts(grammar, json.dumps(value, ensure_ascii=False), vocabulary), value


TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["value", "children"],
        }
    },
}


def test_schemas_that_contain_themselves(vocabulary: Vocabulary) -> None:
    grammar = grammar_of_schema(TREE)
    leaf = {"value": 1, "children": []}
    tree = {"value": 2, "children": [leaf, {"value": 3, "children": [leaf]}]}
    assert accepts(grammar, json.dumps(tree), vocabulary)
    assert not accepts(grammar, json.dumps({"value": 2}), vocabulary)


def test_branches_that_a_tag_tells_apart(vocabulary: Vocabulary) -> None:
    def tagged(kind: str) -> dict[str, Any]:
        properties = {"kind": {"const": kind}, kind: {"type": "integer"}}
        return {"type": "object", "properties": properties, "required": ["kind", kind]}

    grammar = grammar_of_schema(
        {
            "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
            "$defs": {"cat": tagged("cat"), "dog": tagged("dog")},
        }
    )
    assert accepts(grammar, '{"kind": "dog", "dog": 2}', vocabulary)
    assert not accepts(grammar, '{"kind": "dog", "cat": 2}', vocabulary)


def test_a_listed_name_is_no_other_name(vocabulary: Vocabulary) -> None:
    grammar = grammar_of_schema(
        {
            "type": "object",
            "properties": {"name": {"type": "integer"}},
            "additionalProperties": {"type": "string"},
        }
    )
    assert accepts(grammar, '{"nam": "a", "names": "b"}', vocabulary)
    for text in ('{"name": "a"}', '{"\\u006eame": "a"}', '{"x": "", "name": "a"}'):
        assert not accepts(grammar, text, vocabulary)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_any_object_is_an_object(vocabulary: Vocabulary, seed: int) -> None:
    text, is_whole = say(grammar_of_any_object(), vocabulary, seed)
    assert text.startswith("{")
    if is_whole:
        assert isinstance(json.loads(text), dict)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
@settings(max_examples=40, deadline=None)
def test_every_object_is_any_object(vocabulary: Vocabulary, value: dict[str, Any]) -> None:
    assert accepts(grammar_of_any_object(), json.dumps(value), vocabulary)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"not": {}}, "at '#' has 'not', which is not supported; supported are $ref,"),
        ({"properties": {"a": {"multipleOf": 2}}}, "at '#/properties/a' has 'multipleOf'"),
        ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
        ({"patternProperties": {}}, "'patternProperties'"),
        ({"type": "text"}, "at '#/type' must be of object"),
        ({"type": []}, "at '#/type'"),
        ({"type": [[]]}, "at '#/type'"),
        ({"properties": []}, "must be an object"),
        ({"properties": {"a": 1}}, "at '#/properties/a' must be an object or a boolean"),
        ({"properties": {"a": False}, "required": ["a"]}, "lets no value through"),
        ({"required": "a"}, "must be an array of strings"),
        ({"required": ["a"], "additionalProperties": False}, "'additionalProperties' does not"),
        ({"enum": []}, "array of 1 to 1000"),
        ({"enum": ["a"], "type": "integer"}, "no value of the 'type'"),
        ({"enum": ["a"], "minLength": 3}, "has 'minLength' beside 'enum'"),
        ({"anyOf": []}, "array of schemas"),
        ({"anyOf": [{}], "properties": {}}, "has 'properties' beside 'anyOf'"),
        ({"allOf": [{}, {}]}, "more than one schema"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "use 'anyOf'"),
        ({"oneOf": [{"$ref": "#/oneOf/0"}, {}]}, "use 'anyOf'"),
        ({"$ref": "other.json"}, "must begin with '#/'"),
        ({"$ref": 3}, "must begin with '#/'"),
        ({"$ref": "#/$defs/a"}, "leads nowhere"),
        ({"$ref": "#"}, "leads to itself"),
        ({"anyOf": [{"type": "null"}, {"$ref": "#"}]}, "leads to itself"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "no value through that ends"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "no value through that ends"),
        ({"minItems": -1}, "whole number"),
        ({"minItems": 1.5}, "whole number"),
        ({"minItems": True}, "whole number"),
        ({"minItems": 3, "maxItems": 2}, "is below 'minItems'"),
        ({"minItems": 10**9}, "100000 at most"),
        ({"prefixItems": [{}], "items": False, "minItems": 2}, "more items than it allows"),
        ({"items": [{}]}, "use 'prefixItems'"),
        ({"minimum": "a"}, "must be a number"),
        ({"minimum": 1e300}, "at most 15 digits"),
        ({"minimum": 1e-30}, "at most 15 digits"),
        ({"minimum": 3, "maximum": 2}, "lets no number"),
        ({"type": "integer", "minimum": 0.2, "maximum": 0.8}, "lets no number"),
        ({"minimum": float("nan")}, "number that JSON cannot"),
        ({"format": "color"}, "supported are date, time"),
        ({"pattern": "a", "maxLength": 3}, "'pattern' and 'maxLength'"),
        ({"pattern": "(?=a)"}, "another kind than '(?:'"),
        ({"pattern": "(a"}, "group"),
        ({"pattern": "a)"}, "')' too many"),
        ({"pattern": "[a"}, "']'"),
        ({"pattern": "[]"}, "empty '[]'"),
        ({"pattern": "[b-a]"}, "range"),
        ({"pattern": "*"}, "means nothing"),
        ({"pattern": "a**"}, "two quantifiers"),
        ({"pattern": "(a?)*"}, "may be empty"),
        ({"pattern": "a{9999999}"}, "means nothing"),
        ({"pattern": "a{3,2}"}, "repeats"),
        ({"pattern": "\\bword"}, "not supported"),
        ({"pattern": "(a)\\1"}, "not supported"),
        ({"pattern": "a$b"}, "before its end"),
        ({"pattern": "(" * 500}, "deep"),
        ({"pattern": "a" * 3000}, "2000 characters"),
        ({"pattern": 3}, "must be a string"),
    ],
)
def test_what_is_not_served_is_named_in_one_line(schema: Any, words: str) -> None:
    with pytest.raises(GrammarInvalid) as caught:
        grammar_of_schema(schema)
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500
    assert caught.value.param == "response_format.json_schema.schema"


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


HOSTILE: dict[str, Any] = {
    "deep": nested(150),
    "chain": {
        "$ref": "#/$defs/0",
        "$defs": {
            str(i): {"anyOf": [{"type": "null"}, {"$ref": f"#/$defs/{(i + 1) % 1500}"}]}
            for i in range(1500)
        },
    },
    "wide": {"properties": {f"p{i}": {} for i in range(4000)}},
    "long": {"properties": {f"p{i}": {"maxLength": 100_000 - i} for i in range(500)}},
    "text": {"title": "a" * 200_000},
    "enum": {"enum": ["a" * i for i in range(400)]},
    "lists": {"anyOf": [{"type": "array", "maxItems": 9000 + i} for i in range(90)]},
    "names": {"properties": {"a" * 20_000: {}}, "additionalProperties": True},
    "branches": {"oneOf": [{"const": i} for i in range(3000)]},
    "patterns": {"anyOf": [{"pattern": "(" * 15 + "a" + "){9}" * 15 + "b" * i} for i in range(99)]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_costs_little(vocabulary: Vocabulary, name: str) -> None:
    began = time.process_time()
    if (grammar := written(HOSTILE[name])) is not None:
        Grammar(grammar, vocabulary).free()
    assert time.process_time() - began < 5


KEYWORDS = (
    "type properties items required enum const anyOf oneOf allOf $ref $defs pattern format"
    " minLength maxItems minimum maximum prefixItems additionalProperties"
).split()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner | st.sampled_from(["object", "#", "#/items", "string", "#/$defs/type", "(a|b)*"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values.filter(lambda value: isinstance(value, dict)))
@settings(max_examples=80, deadline=None)
def test_no_json_at_all_breaks_it(vocabulary: Vocabulary, schema: dict[str, Any]) -> None:
    """Whatever is made of a schema, llama.cpp reads it."""
    if (grammar := written(schema)) is not None:
        Grammar(grammar, vocabulary).free()


def test_annotations_change_nothing() -> None:
    schema = {"type": "string"}
    assert grammar_of_schema(schema | dict.fromkeys(ANNOTATIONS, "x")) == grammar_of_schema(schema)
