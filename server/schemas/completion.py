"""The reply of `POST /v1/chat/completions`: one object, or the chunks of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from models.protocols import GenerationUsage
from server.grounding.types import AnswerEnd, Citation, GroundingReport


@dataclass(frozen=True, slots=True)
class ChatReply:
    """Builds the JSON of one answer; `created_s` is Unix time in seconds.

    With `include_usage` every chunk carries `usage: null` and one more chunk the numbers.
    """

    id: str
    created_s: int
    model: str
    fingerprint: str
    include_usage: bool = False

    def whole(self, end: AnswerEnd) -> dict[str, object]:
        """The object that answers a request without `stream`."""
        message = {
            "role": "assistant",
            "content": end.text,
            "refusal": None,
            "annotations": to_annotations(end.report),
        }
        return {
            **self._head("chat.completion"),
            "service_tier": "default",
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "finish_reason": end.finish_reason,
                    "logprobs": None,
                }
            ],
            "usage": to_usage(end.usage),
            "grounding": end.report.to_json(),
        }

    def first_chunk(self) -> dict[str, object]:
        """The chunk that names the role."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def text_chunk(self, text: str) -> dict[str, object]:
        """A piece of the answer."""
        return self._chunk({"content": text})

    def last_chunk(self, end: AnswerEnd) -> dict[str, object]:
        """The chunk with the reason, the annotations and the `grounding` object."""
        chunk = self._chunk(
            {"annotations": to_annotations(end.report)}, finish_reason=end.finish_reason
        )
        return {**chunk, "grounding": end.report.to_json()}

    def usage_chunk(self, end: AnswerEnd) -> dict[str, object]:
        """The extra chunk of `stream_options.include_usage`."""
        return {
            **self._head("chat.completion.chunk"),
            "choices": [],
            "usage": to_usage(end.usage),
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
        self, delta: dict[str, object], *, finish_reason: str | None = None
    ) -> dict[str, object]:
        chunk: dict[str, object] = {
            **self._head("chat.completion.chunk"),
            "choices": [
                {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
            ],
        }
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
