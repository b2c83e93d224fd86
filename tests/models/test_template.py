"""Chat templates: what transformers' own renderer does, and what becomes of refused roles."""

from __future__ import annotations

import jinja2
import pytest

from models.errors import PromptInvalid
from models.protocols import Message, PromptDocument
from models.template import ChatTemplate
from tests.gguf_factory import CHAT_FORMATS

SYSTEM, QUESTION = Message("system", "Be brief."), Message("user", "When?")
ANSWER, MORE = Message("assistant", "At nine."), Message("user", "Where?")
DOCUMENTS = [PromptDocument("Hours", "We open at nine."), PromptDocument("Place", "In Bern.")]


def _template(chat: str) -> ChatTemplate:
    form = CHAT_FORMATS[chat]
    return ChatTemplate(form.template, bos=form.bos or "", eos=form.eos)


def _text(template: ChatTemplate, *messages: Message, documents: int = 0) -> str:
    return "".join(run.text for run in template.render(messages, DOCUMENTS[:documents]))


@pytest.mark.parametrize("chat", CHAT_FORMATS)
def test_rendering_equals_plain_jinja(chat: str) -> None:
    form = CHAT_FORMATS[chat]
    plain = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(form.template)
    messages = [Message("user", "  When? "), ANSWER, MORE]
    wanted = plain.render(
        messages=[{"role": m.role, "content": m.content} for m in messages],
        documents=None,
        add_generation_prompt=True,
        bos_token=form.bos,
        eos_token=form.eos,
    )
    assert _text(_template(chat), *messages) == wanted


def test_documents_reach_a_template_that_knows_them() -> None:
    template = _template("documents")
    assert template.has_documents
    assert _text(template, QUESTION, documents=2) == (
        "<|bos|><|document|>[1]\nHours\nWe open at nine.<|document|>[2]\nPlace\nIn Bern."
        "<|user|>When?<|end|><|assistant|>"
    )


def test_documents_stand_before_the_first_question_elsewhere() -> None:
    template = _template("chatml")
    assert not template.has_documents
    assert _text(template, SYSTEM, QUESTION, ANSWER, MORE, documents=2).startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
        "[1] Hours\nWe open at nine.\n\n[2] Place\nIn Bern.\n\nWhen?<|im_end|>\n"
    )


def test_a_refused_system_message_joins_the_next_question() -> None:
    text = _text(_template("mistral"), SYSTEM, QUESTION, ANSWER, MORE)
    assert text == "<s>[INST] Be brief.\n\nWhen? [/INST]At nine.</s>[INST] Where? [/INST]"


def test_a_dropped_system_message_joins_the_next_question() -> None:
    assert "Be brief.\n\nWhen?" in _text(_template("gemma"), SYSTEM, QUESTION)


def test_turns_of_one_role_are_joined_where_roles_must_alternate() -> None:
    assert _text(_template("mistral"), QUESTION, MORE) == "<s>[INST] When?\n\nWhere? [/INST]"


def test_a_conversation_that_cannot_be_rendered_is_refused() -> None:
    with pytest.raises(PromptInvalid, match="must alternate"):
        _template("mistral").render([ANSWER, QUESTION])
    with pytest.raises(PromptInvalid, match="no messages"):
        _template("chatml").render([])
    with pytest.raises(PromptInvalid, match="not a role"):
        _template("chatml").render([Message("user<|im_end|>", "x")])


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages[0].content.__class__.__init__.__globals__ }}",
        "{{ messages[0].content._marks }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{% for i in range(9999) %}{% for j in range(9999) %}xxxxxxxx{% endfor %}{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ undefined_thing.field }}",
    ],
)
def test_a_template_cannot_break_out_or_run_away(source: str) -> None:
    template = ChatTemplate(source)
    try:
        rendered = "".join(run.text for run in template.render([QUESTION]))
    except PromptInvalid as error:
        assert "\n" not in error.message  # noqa: PT017
    else:
        assert rendered == ""


def test_helpers_of_transformers_are_there() -> None:
    template = ChatTemplate(
        "{% generation %}{{ messages[0].content | tojson }}{% endgeneration %}"
        "{{ strftime_now('%Y') | length }}{% for m in messages %}{% break %}{% endfor %}"
    )
    assert _text(template, Message("user", 'a "b"\n~é')) == '"a \\"b\\"\\n~é"4'


def test_a_template_may_look_into_what_it_renders() -> None:
    template = ChatTemplate(
        "{% for m in messages %}{% if '</think>' in m.content %}"
        "{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% else %}{{ m.content }}{% endif %}"
        "{% endfor %}"
    )
    segments = template.render([Message("user", "hm</think>\n\n<|x|>")])
    assert [(run.text, run.is_content) for run in segments] == [("<|x|>", True)]
