from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import index
import ingest
import models
import server
from models.errors import AppError, ContextLengthExceeded, QueueFull
from server.errors import InternalError, NotReady, ServerError
from server.replies import error_body, error_headers
from server.statuses import STATUS_BY_CLASS, status_of

# Run as programs; importing them would start them.
_PROGRAMS = {"__main__"}


def walk_errors(root: type[AppError] = AppError) -> Iterator[type[AppError]]:
    for cls in root.__subclasses__():
        yield cls
        yield from walk_errors(cls)


def import_everything() -> None:
    """Errors may be defined in any module, so all are imported, except where an extra lacks."""
    for package in (models, index, ingest, server):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.rpartition(".")[2] in _PROGRAMS or ".imitation" in found.name:
                continue
            importlib.import_module(found.name)


def test_every_error_has_its_own_line_in_the_status_table() -> None:
    import_everything()
    ours = {cls for cls in walk_errors() if not cls.__module__.startswith("tests.")}
    assert {cls.__qualname__ for cls in ours - set(STATUS_BY_CLASS)} == set()
    assert set(STATUS_BY_CLASS) <= ours


def test_every_error_is_an_app_error_with_a_code_and_a_docstring() -> None:
    import_everything()
    for cls in walk_errors():
        assert cls.code, cls
        assert cls.__doc__, cls


def test_an_unlisted_error_takes_the_status_of_its_nearest_class() -> None:
    class Fuller(QueueFull):
        pass

    assert status_of(Fuller(1, 2.0)) == 429
    with pytest.raises(KeyError):
        status_of(AppError("nothing is known of it"))
    Fuller.__module__ = "tests.local"


def test_the_body_always_has_its_four_keys() -> None:
    body = error_body(ContextLengthExceeded(3, 4, 5))
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "invalid_request_error"
    assert error_body(ServerError("x"))["error"]["type"] == "server_error"


def test_only_errors_that_pass_by_themselves_invite_another_try() -> None:
    assert error_headers(QueueFull(4, 2.4)) == {"retry-after": "2"}
    assert error_headers(NotReady("x")) == {"retry-after": "1"}
    assert error_headers(InternalError("x")) == {"x-should-retry": "false"}


def test_no_status_is_422_or_501() -> None:
    assert not {422, 501} & set(STATUS_BY_CLASS.values())
