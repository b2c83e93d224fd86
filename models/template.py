"""The chat template of a GGUF: messages and documents to scaffold and content segments.

Templates come with the model file, so they run in jinja2's immutable sandbox, with the settings
and helpers that `transformers` gives them (`apply_chat_template`), under a bound on time and size.
"""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models.errors import ModelFileInvalid, PromptInvalid
from models.listing import join_turns, mark_content, put_documents_first
from models.marking import MarkedText, Marks, Segment
from models.protocols import Message, PromptDocument

_MAX_SCAFFOLD_CHARACTERS = 4_000_000
_MAX_RENDER_S = 10.0
# A role is written into scaffold, so it may not carry anything a tokenizer would take for control.
_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_TURN_ROLES = ("user", "assistant")


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks what to train on; here it is transparent."""

    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().astimezone().strftime(form)


def _escape(value: Any) -> Any:
    if isinstance(value, MarkedText):
        return value.escape_content()
    if isinstance(value, dict):
        return {_escape(key): _escape(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escape(item) for item in value]
    return value


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        _escape(value),
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


class ChatTemplate:
    """A parsed chat template. Raises `ModelFileInvalid` if it does not parse."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _GenerationTag],
        )
        environment.filters["tojson"] = _tojson
        environment.globals.update(
            raise_exception=_raise_exception,
            strftime_now=_strftime_now,
            bos_token=bos,
            eos_token=eos,
        )
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelFileInvalid(
                f"The model's chat template does not parse: {_one_line(error)}", param="model"
            ) from None
        self.has_documents = self._uses_documents()

    def render(
        self,
        messages: Sequence[Message],
        documents: Sequence[PromptDocument] = (),
        *,
        add_generation_prompt: bool = True,
    ) -> list[Segment]:
        """Return the conversation as segments of scaffold and content.

        Roles that the template refuses or drops are merged into the next user turn. Raises
        `PromptInvalid` if it refuses the conversation nevertheless.
        """
        return self.fit(messages, documents, add_generation_prompt=add_generation_prompt)[1]

    def fit(
        self,
        messages: Sequence[Message],
        documents: Sequence[PromptDocument] = (),
        *,
        add_generation_prompt: bool = True,
    ) -> tuple[list[Message], list[Segment]]:
        """As `render`, with the messages in the form that the template took.

        A segment's `source` counts those messages, and then the documents. Where the template has
        no use for documents, the first user message says where they stand in it.
        """
        _check_messages(messages)
        messages = list(messages)
        if documents and not self.has_documents:
            messages = put_documents_first(messages)
        refusal: PromptInvalid | None = None
        accepted: tuple[list[Message], list[Segment]] | None = None
        for attempt in _attempts(messages):
            try:
                segments = self._render(attempt, documents, add_generation_prompt)
            except PromptInvalid as error:
                refusal = refusal or error
                continue
            if _says_all(attempt, segments):
                return attempt, segments
            accepted = accepted or (attempt, segments)
        if accepted is not None:
            return accepted
        raise refusal or PromptInvalid("There are no messages to answer.", param="messages")

    def _render(
        self,
        messages: Sequence[Message],
        documents: Sequence[PromptDocument],
        add_generation_prompt: bool,
    ) -> list[Segment]:
        marks = Marks()
        variables = {
            "messages": [
                {
                    "role": message.role,
                    "content": mark_content(marks, messages, index, documents),
                }
                for index, message in enumerate(messages)
            ],
            "documents": [
                _document_variable(marks, document, len(messages) + index, index)
                for index, document in enumerate(documents)
            ]
            or None,
            "tools": None,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return marks.segments(_bounded(self._template.generate(variables)))
        except Exception as error:
            # Whatever a template raises says that it cannot take this conversation.
            raise PromptInvalid(
                f"The model's chat template refuses these messages: {_one_line(error)}",
                param="messages",
            ) from error

    def _uses_documents(self) -> bool:
        probe = PromptDocument(title="title", text="text")
        try:
            segments = self._render([Message("user", "question")], [probe], True)
        except PromptInvalid:
            return False
        return any(run.source == 1 and run.text == probe.text for run in segments)


def _document_variable(
    marks: Marks, document: PromptDocument, source: int, index: int
) -> dict[str, Any]:
    text = marks.mark(document.text, source)
    # `text` is the usual name; some templates say `content`, some number by `doc_id`.
    return {
        "title": marks.mark(document.title, source),
        "text": text,
        "content": text,
        "doc_id": index + 1,
    }


def _check_messages(messages: Sequence[Message]) -> None:
    if not messages:
        raise PromptInvalid("There are no messages to answer.", param="messages")
    for message in messages:
        if not _ROLE.fullmatch(message.role):
            raise PromptInvalid(f"{message.role!r:.60} is not a role.", param="messages")


def _attempts(messages: list[Message]) -> Iterator[list[Message]]:
    """The conversation as it is, then in forms that stricter templates accept."""
    yield messages
    merged = _merge_into_user_turns(messages)
    if merged != messages:
        yield merged
    alternating = _merge_neighbours(merged)
    if alternating != merged:
        yield alternating


def _merge_into_user_turns(messages: Sequence[Message]) -> list[Message]:
    merged: list[Message] = []
    waiting: list[Message] = []
    for message in messages:
        if message.role not in _TURN_ROLES:
            waiting.append(message)
        elif message.role == "user" and waiting:
            merged.append(join_turns("user", [*waiting, message]))
            waiting = []
        else:
            merged.append(message)
    if waiting:
        merged.append(join_turns("user", waiting))
    return merged


def _merge_neighbours(messages: Sequence[Message]) -> list[Message]:
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            merged[-1] = join_turns(message.role, [merged[-1], message])
        else:
            merged.append(message)
    return merged


def _says_all(messages: Sequence[Message], segments: Sequence[Segment]) -> bool:
    said = {run.source for run in segments}
    return all(index in said for index, message in enumerate(messages) if message.content.strip())


def _bounded(pieces: Iterator[str]) -> str:
    deadline = time.monotonic() + _MAX_RENDER_S
    num_characters, kept = 0, []
    for piece in pieces:
        num_characters += str.__len__(piece)
        if num_characters > _MAX_SCAFFOLD_CHARACTERS or time.monotonic() > deadline:
            raise jinja2.TemplateError("it runs away")
        kept.append(piece)
    return "".join(kept)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
