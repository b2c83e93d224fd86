from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any

import pytest

from models.imitation.collecting.teacher import (
    RetryRules,
    Teacher,
    TeacherReply,
    TeacherRequest,
    endpoint_of,
)
from models.imitation.errors import TeacherFailed
from tests.models.imitation.collecting.runs import QUICK
from tests.models.imitation.collecting.scripted_teacher import (
    CREATED_S,
    Failure,
    ScriptedTeacher,
    running,
)

REQUEST = TeacherRequest("Say hello.", max_tokens=5, temperature=0.0)
OVERLOADED: Failure = (503, {}, {"error": {"message": "overloaded"}})


def ask(teacher: ScriptedTeacher, num_requests: int = 1, **options: Any) -> list[TeacherReply]:
    async def run() -> list[TeacherReply]:
        client = Teacher(teacher.url, "m", **{"retry": QUICK, **options})
        try:
            requests = [TeacherRequest(f"Say {number}.", 5, 0.0) for number in range(num_requests)]
            return await asyncio.gather(*(client.ask(request) for request in requests))
        finally:
            await client.close()

    return asyncio.run(run())


def fail_then_say(failures: Sequence[Failure], **options: Any) -> ScriptedTeacher:
    return ScriptedTeacher(lambda body: "Hello.", failures, **options)


def test_a_reply_carries_what_the_endpoint_says() -> None:
    with running(fail_then_say([])) as teacher:
        (reply,) = ask(teacher)
    assert (reply.text, reply.finish_reason, reply.model) == ("Hello.", "stop", "teacher-2")
    assert CREATED_S <= reply.time_s < CREATED_S + 1000
    assert (reply.num_prompt_tokens, reply.num_completion_tokens) == (2, 1)
    assert teacher.url == f"http://{reply.endpoint}/v1"
    assert teacher.paths == ["/v1/chat/completions"]
    assert teacher.keys == [None]


def test_only_given_parameters_are_sent() -> None:
    assert REQUEST.to_body("m") == {
        "model": "m",
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 5,
        "temperature": 0.0,
    }


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_a_passing_failure_is_asked_again(status: int) -> None:
    with running(fail_then_say([(status, {}, {})] * 3)) as teacher:
        assert ask(teacher)[0].text == "Hello."
    assert len(teacher.bodies) == 4
    assert all(body == teacher.bodies[0] for body in teacher.bodies)


def test_waits_double_up_to_the_longest() -> None:
    rules = RetryRules(max_attempts=5, first_wait_s=0.1, max_wait_s=0.2)
    with running(fail_then_say([OVERLOADED] * 4)) as teacher:
        ask(teacher, retry=rules)
    waits_s = [b - a for a, b in zip(teacher.times_s, teacher.times_s[1:], strict=False)]
    # Each wait is between half and whole; what the machine adds is not bounded from above.
    assert all(w >= low for w, low in zip(waits_s, (0.05, 0.1, 0.1, 0.1), strict=True))


@pytest.mark.parametrize("told", ["0.3", None])
def test_retry_after_is_obeyed_by_every_request(told: str | None) -> None:
    """Seconds or a date; what waits meanwhile for its turn is not sent either."""
    wanted = told or formatdate(time.time() + 2, usegmt=True)
    failure: Failure = (429, {"retry-after": wanted}, {"error": {"message": "slow down"}})
    with running(fail_then_say([failure])) as teacher:
        ask(teacher, 3, concurrency=1)
    assert len(teacher.bodies) == 4
    assert teacher.times_s[1] - teacher.times_s[0] >= (0.3 if told else 0.9)


def test_a_wait_of_hours_ends_the_run_at_once() -> None:
    failure: Failure = (429, {"retry-after": "7200"}, {"error": {"message": "quota"}})
    with (
        running(fail_then_say([failure])) as teacher,
        pytest.raises(TeacherFailed, match=r"answers 429 \(quota\).*in 120 min"),
    ):
        ask(teacher)
    assert len(teacher.bodies) == 1


def test_it_gives_up_after_so_many_attempts() -> None:
    with (
        running(fail_then_say([OVERLOADED] * 9)) as teacher,
        pytest.raises(TeacherFailed, match=r"answers 503 \(overloaded\), after 4 attempts"),
    ):
        ask(teacher)
    assert len(teacher.bodies) == 4


@pytest.mark.parametrize(
    "content", [b"<html>", b'{"choices": []}', b"[1]", b'{"choices": [{"message": 3}]}']
)
def test_what_is_no_completion_is_asked_again(content: bytes) -> None:
    with running(fail_then_say([(200, {}, content)])) as teacher:
        assert ask(teacher)[0].text == "Hello."
    with (
        running(fail_then_say([(200, {}, content)] * 4)) as teacher,
        pytest.raises(TeacherFailed, match="no chat completion"),
    ):
        ask(teacher)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
def test_a_refusal_is_told_at_once_without_the_key(status: int) -> None:
    failure: Failure = (status, {"location": "/elsewhere"}, {"error": {"message": "key sk-7 no."}})
    with (
        running(fail_then_say([failure])) as teacher,
        pytest.raises(TeacherFailed) as failed,
    ):
        ask(teacher, api_key=" sk-7\n")
    assert len(teacher.bodies) == 1
    assert teacher.keys == ["Bearer sk-7"]
    assert failed.value.message.endswith(f"answers {status} (key *** no).")


def test_a_prompt_that_a_filter_refuses_does_not_stop_the_run() -> None:
    refusal: Failure = (400, {}, {"error": {"code": "content_filter", "message": "no"}})
    with running(fail_then_say([refusal])) as teacher:
        (reply,) = ask(teacher)
    assert (reply.text, reply.finish_reason) == ("", "content_filter")


def test_an_endpoint_that_is_not_there_is_named() -> None:
    with running(fail_then_say([])) as teacher:
        pass
    with pytest.raises(TeacherFailed, match=r"cannot be reached.*after 4 attempts"):
        ask(teacher)


def test_no_more_requests_run_than_asked_for() -> None:
    with running(fail_then_say([], delay_s=0.05)) as teacher:
        ask(teacher, 12, concurrency=3)
    assert len(teacher.bodies) == 12
    assert teacher.most_running == 3


def test_halves_of_characters_do_not_reach_a_file() -> None:
    with running(ScriptedTeacher(lambda body: "a\ud800b")) as teacher:
        assert ask(teacher)[0].text == "a?b"


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with running(fail_then_say([])) as teacher:
        assert ask(teacher)[0].text == "Hello."


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://api.example.com/v1", "api.example.com"),
        ("http://localhost:8080", "localhost:8080"),
        ("http://[::1]:8080/v1/", "[::1]:8080"),
    ],
)
def test_the_endpoint_is_host_and_port(url: str, endpoint: str) -> None:
    assert endpoint_of(url) == endpoint


@pytest.mark.parametrize(
    "url",
    [
        "api.example.com",
        "ftp://x/v1",
        "http://",
        "http://h:99999/",
        "https://u:pw@h/v1",
        "http://h?k=1",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(TeacherFailed):
        endpoint_of(url)


@pytest.mark.parametrize("key", ["schlüssel", "a\nb"])
def test_a_key_that_cannot_be_sent_is_refused(key: str) -> None:
    with pytest.raises(TeacherFailed, match="MYNAH_TEACHER_API_KEY"):
        Teacher("http://127.0.0.1:1/v1", "m", key)
