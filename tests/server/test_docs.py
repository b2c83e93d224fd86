from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.routing import APIRoute

from server.routes import chat, health, models
from server.schemas.chat import ChatRequest, GroundingOptions
from server.statuses import STATUS_BY_CLASS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["settings.md", "errors.md", "cli.md"])
def test_generated_tables_are_up_to_date(generate: Any, name: str) -> None:
    text = read(name)
    assert generate.fill(name, text) == text, "run: python docs/generate.py"


def test_every_command_is_generated(generate: Any) -> None:
    from server.cli import app

    names = {(), *((str(command.name),) for command in app.registered_commands)}
    for group in app.registered_groups:
        assert group.typer_instance is not None
        inner = group.typer_instance.registered_commands
        names |= {(str(group.name),), *((str(group.name), str(c.name)) for c in inner)}
    assert set(generate.COMMANDS) == names


def test_every_error_code_is_listed() -> None:
    text = read("errors.md")
    for cls, status in STATUS_BY_CLASS.items():
        assert re.search(rf"^\| {status} \| `\w+` \| `{cls.code}` \|", text, re.MULTILINE), cls


def test_every_endpoint_is_listed() -> None:
    text = read("api.md")
    for module in (chat, health, models):
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            path = route.path.replace("{model_id:path}", "{id}")
            method = "POST" if "POST" in (route.methods or ()) else "GET"
            assert f"`{method} {path}`" in text


@pytest.mark.parametrize("schema", [ChatRequest, GroundingOptions])
def test_every_field_of_a_request_is_listed(schema: Any) -> None:
    text = read("api.md")
    for name in schema.model_fields:
        assert f"`{name}`" in text, name


def test_python_examples_parse() -> None:
    for block in re.findall(r"```python\n(.*?)```", read("api.md"), re.DOTALL):
        ast.parse(block)
