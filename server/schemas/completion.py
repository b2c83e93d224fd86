"""The reply of `POST /v1/chat/completions`: one object, or the chunks of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from models.protocols import GenerationUsage
from server.choices import Choice, sum_usage
from server.grounding.types import AnswerEnd, Citation, GroundingReport, TextDelta
from server.schemas.logprobs import to_logprobs


@dataclass(frozen=True, slots=True)
class ChatReply:
    """Builds the JSON of one request's answers; `created_s` is Unix time in seconds.

    With `include_usage` every chunk carries `usage: null` and one more chunk the numbers. The
    `grounding` object of the first answer stands in the reply itself, where there are several each
    choice has its own.
    """

    id: str
    created_s: int
    model: str
    fingerprint: str
    include_usage: bool = False
    has_logprobs: bool = False

    def whole(self, choices: Sequence[Choice]) -> dict[str, object]:
        """The object that answers a request without `stream`."""
        return {
            **self._head("chat.completion"),
            "service_tier": "default",
            "choices": [
                {**self._choice(i, choice), **self._own_grounding(choice.end, len(choices))}
                for i, choice in enumerate(choices)
            ],
            "usage": to_usage(sum_usage([choice.end.usage for choice in choices])),
            "grounding": choices[0].end.report.to_json(),
        }

    def _choice(self, index: int, choice: Choice) -> dict[str, object]:
        return {
            "index": index,
            "message": {
                "role": "assistant",
                "content": choice.end.text,
                "refusal": None,
                "annotations": to_annotations(choice.end.report),
            },
            "finish_reason": choice.end.finish_reason,
            "logprobs": to_logprobs(choice.logprobs) if self.has_logprobs else None,
        }

    def _own_grounding(self, end: AnswerEnd, num_choices: int) -> dict[str, object]:
        return {"grounding": end.report.to_json()} if num_choices > 1 else {}

    def first_chunk(self, index: int = 0) -> dict[str, object]:
        """The chunk that names the role."""
        return self._chunk(index, {"role": "assistant", "content": "", "refusal": None})

    def text_chunk(self, index: int, event: TextDelta) -> dict[str, object]:
        """A piece of an answer, with the probabilities of its tokens."""
        logprobs = to_logprobs(event.logprobs) if self.has_logprobs else None
        return self._chunk(index, {"content": event.text}, logprobs=logprobs)

    def last_chunk(self, index: int, end: AnswerEnd) -> dict[str, object]:
        """An answer's chunk with the reason, the annotations and the `grounding` object."""
        chunk = self._chunk(
            index, {"annotations": to_annotations(end.report)}, finish_reason=end.finish_reason
        )
        return {**chunk, "grounding": end.report.to_json()}

    def usage_chunk(self, ends: Sequence[AnswerEnd]) -> dict[str, object]:
        """The extra chunk of `stream_options.include_usage`."""
        return {
            **self._head("chat.completion.chunk"),
            "choices": [],
            "usage": to_usage(sum_usage([end.usage for end in ends])),
        }

    def _head(self, kind: str) -> dict[str, object]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created_s,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def _chunk(
        self,
        index: int,
        delta: dict[str, object],
        *,
        finish_reason: str | None = None,
        logprobs: dict[str, object] | None = None,
    ) -> dict[str, object]:
        choice = {
            "index": index,
            "delta": delta,
            "finish_reason": finish_reason,
            "logprobs": logprobs,
        }
        chunk: dict[str, object] = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self.include_usage else chunk


def to_usage(usage: GenerationUsage) -> dict[str, object]:
    """OpenAI's `usage` object."""
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_completion_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.num_cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def to_annotations(report: GroundingReport) -> list[dict[str, object]]:
    """One `url_citation` for each citation of each sentence; offsets into the answer's text."""
    citations = {citation.index: citation for citation in report.citations}
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": sentence.start,
                "end_index": sentence.end,
                "title": citations[index].filename,
                "url": to_url(citations[index]),
            },
        }
        for sentence in report.sentences
        for index in sentence.citations
        if index in citations
    ]


def to_url(citation: Citation) -> str:
    """`mynah://<collection>/<path>`, with `#page=N` where the document has pages."""
    path = quote(citation.path, safe="/", errors="backslashreplace")
    page = f"#page={citation.page}" if citation.page is not None else ""
    return f"mynah://{quote(citation.collection, safe='')}/{path}{page}"
