from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from models.imitation.conversations import Turn
from models.imitation.errors import TrainingDataInvalid
from models.imitation.importing.markdown import repair_fences, to_markdown
from models.imitation.importing.report import Drop
from models.imitation.importing.sharegpt import Markup, read_turns

CODE = "import os\n\n\n\nif a < b:\n    print('*')\n"
# The markup in which the site showed an answer: the label and the button stand inside `pre`.
ANSWER = (
    '<div class="markdown prose"><p>Take <code>x_1</code> &lt; 2:</p><pre><div class="bg-black">'
    '<div class="flex"><span>python</span><button class="flex"><svg></svg>Copy code</button></div>'
    '<div class="p-4"><code class="!whitespace-pre hljs{language}"><span class="k">import</span> os'
    "\n\n\n\nif a &lt; b:\n    print('*')\n</code></div></div></pre><ol><li><p>one</p></li>"
    "<li>two *lit*</li></ol></div>"
)
MARKDOWN = f"Take `x_1` < 2:\n\n```python\n{CODE}```\n\n1. one\n2. two *lit*"


def row(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"id": "a", "conversations": [{"from": name, "value": text} for name, text in turns]}


def read(*turns: tuple[str, str], markup: Markup = "auto") -> tuple[Turn, ...] | Drop:
    return read_turns(row(*turns), markup, Counter())


@pytest.mark.parametrize("language", [" language-python", ""])
def test_html_becomes_markdown_with_code_and_its_language_kept(language: str) -> None:
    assert to_markdown(ANSWER.replace("{language}", language)) == MARKDOWN


def test_formulas_become_tex_once() -> None:
    html = (
        '<p>So <span class="katex"><span class="katex-mathml"><math><mi>x</mi><annotation '
        'encoding="application/x-tex">x^2</annotation></math></span><span class="katex-html">x2'
        "</span></span>.</p>"
    )
    assert to_markdown(html) == "So $x^2$."


@pytest.mark.parametrize(
    ("broken", "repaired"),
    [
        ("```\npythonCopy code`print(1)\nx`\n```", "```python\nprint(1)\nx\n```"),
        ("```\nCopy code\nls\n```", "```\nls\n```"),
        ("```js\nCopy code`f()`\n```", "```js\nf()\n```"),
        ("  ```\n  c++Copy code`f()`\n  ```", "  ```c++\nf()\n  ```"),
        ("```python\nprint('Copy code')\n```", "```python\nprint('Copy code')\n```"),
        ("```\nx\n```\nCopy code\n```\ny\n```", "```\nx\n```\nCopy code\n```\ny\n```"),
    ],
)
def test_copy_code_labels_leave_fences_and_nothing_else_does(broken: str, repaired: str) -> None:
    assert repair_fences(broken) == repaired


def test_only_html_answers_are_converted_and_questions_never_are() -> None:
    turns = (("human", "<p>why?</p>"), ("gpt", "<p>Because.</p>"))
    more = (("human", "And `<div>`?"), ("gpt", "Write `<div>` *there*."))
    changed: Counter[str] = Counter()
    found = read_turns(row(*turns, *more), "auto", changed)
    texts = ["<p>why?</p>", "Because.", "And `<div>`?", "Write `<div>` *there*."]
    assert not isinstance(found, Drop)
    assert [turn.content for turn in found] == texts
    assert changed["answers turned from HTML"] == 1
    as_markdown = read(*turns, markup="markdown")
    assert not isinstance(as_markdown, Drop)
    assert as_markdown[1].content == "<p>Because.</p>"
    as_html = read(("human", "q"), ("gpt", "a &lt; b"), markup="html")
    assert not isinstance(as_html, Drop)
    assert as_html[1].content == "a < b"


def test_turns_outside_the_exchange_are_taken_off_and_counted() -> None:
    changed: Counter[str] = Counter()
    turns = (("system", "Be brief."), ("gpt", "Hi!"), ("human", "q"), ("gpt", "a"), ("human", "q2"))
    assert read_turns(row(*turns), "auto", changed) == (
        Turn("system", "Be brief."),
        Turn("user", "q"),
        Turn("assistant", "a"),
    )
    assert changed["turns taken off an end"] == 2


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([("human", "q"), ("human", "q"), ("gpt", "a")], "roles do not alternate"),
        ([("human", "q"), ("gpt", "a"), ("gpt", "a")], "roles do not alternate"),
        ([("human", "q"), ("system", "s"), ("gpt", "a")], "roles do not alternate"),
        ([("gpt", "a"), ("human", "q")], "no exchange"),
        ([], "no exchange"),
        ([("human", "q"), ("gpt", "<p> </p>")], "empty turn"),
        ([("human", "q"), ("plugin", "x"), ("gpt", "a")], "plugin chat"),
        ([("human", "q"), ("critic", "a")], "unknown role"),
        (
            [("human", "q"), ("gpt", "Too many requests in 1 hour. Try again later.")],
            "rate limit reply",
        ),
        (
            [("human", "q"), ("gpt", "<p>We’re experiencing exceptionally high demand.</p>")],
            "rate limit reply",
        ),
    ],
)
def test_what_is_no_clean_chat_is_dropped_with_its_reason(
    turns: list[tuple[str, str]], reason: str
) -> None:
    found = read(*turns)
    assert isinstance(found, Drop)
    assert found.reason == reason


def test_an_answer_about_rate_limits_is_kept() -> None:
    answer = "Servers reply 'too many requests in 1 hour' when a client is too quick. " * 8
    assert not isinstance(read(("human", "What is 429?"), ("gpt", answer)), Drop)


@pytest.mark.parametrize(
    "value",
    [
        {"id": "a"},
        {"conversations": "x"},
        {"conversations": ["x"]},
        {"conversations": [{"from": "human"}]},
        {"conversations": [{"from": "human", "value": None}]},
    ],
)
def test_rows_of_another_form_are_malformed(value: dict[str, Any]) -> None:
    with pytest.raises(TrainingDataInvalid):
        read_turns(value, "auto", Counter())
