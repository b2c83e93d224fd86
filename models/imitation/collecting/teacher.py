"""A teacher behind any OpenAI-compatible endpoint, asked with patience."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from models.imitation.errors import ExtraMissing, TeacherFailed

if TYPE_CHECKING:
    import httpx

# Statuses that say "later" and not "no"; 529 is how some providers say that they are overloaded.
_PASSING = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
# Codes of a 400 that concern one prompt alone: the run can go on without its answer.
_REFUSED_PROMPTS = frozenset(
    ("content_filter", "content_policy_violation", "context_length_exceeded")
)
_MESSAGE_TOKENS = 16


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """One prompt with its sampling parameters; None is left to the endpoint."""

    prompt: str
    max_tokens: int
    temperature: float
    top_p: float | None = None
    presence_penalty: float | None = None
    stop: tuple[str, ...] = ()

    def to_body(self, model: str) -> dict[str, Any]:
        """The body of a chat completion request."""
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": self.prompt}],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }
        if self.top_p is not None:
            body["top_p"] = self.top_p
        if self.presence_penalty is not None:
            body["presence_penalty"] = self.presence_penalty
        if self.stop:
            body["stop"] = list(self.stop)
        return body

    @property
    def bound_tokens(self) -> int:
        """Tokens that the request can cost at most: no tokenizer makes two of one byte."""
        return len(self.prompt.encode()) + _MESSAGE_TOKENS + self.max_tokens


@dataclass(frozen=True, slots=True)
class TeacherReply:
    """What the teacher wrote. Token counts are None where the endpoint does not report them."""

    text: str
    finish_reason: str
    model: str
    endpoint: str
    time_s: int
    num_prompt_tokens: int | None
    num_completion_tokens: int | None

    @property
    def is_cut(self) -> bool:
        """Whether the answer ended at `max_tokens`."""
        return self.finish_reason == "length"


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How often and how long a request waits before it counts as failed.

    The wait doubles from `first_wait_s` to `max_wait_s`; a `Retry-After` is obeyed up to
    `max_retry_after_s`, a longer one ends the run.
    """

    max_attempts: int = 8
    first_wait_s: float = 1.0
    max_wait_s: float = 60.0
    max_retry_after_s: float = 600.0


class Teacher:
    """Asks one model of one endpoint; use and close it within one event loop.

    No other address is contacted: redirects are not followed, and proxies and `.netrc` of the
    environment not used. Raises `ExtraMissing` without httpx, and `TeacherFailed` for a bad URL or
    key.
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str | None = None,
        *,
        concurrency: int = 4,
        timeout_s: float = 300.0,
        retry: RetryRules | None = None,
    ) -> None:
        self.model = model
        self.endpoint = endpoint_of(url)
        self.num_retries = 0
        self._url = url.rstrip("/") + "/chat/completions"
        self._api_key = (api_key or "").strip()
        if not (self._api_key.isascii() and self._api_key.isprintable()):
            raise TeacherFailed("MYNAH_TEACHER_API_KEY holds characters that no key has.")
        self._concurrency = concurrency
        self._timeout_s = timeout_s
        self._retry = retry or RetryRules()
        self._free = asyncio.Semaphore(concurrency)
        # While one request was told to wait, no other is sent either.
        self._paused_until_s = 0.0
        self._client = self._make_client()

    def _make_client(self) -> httpx.AsyncClient:
        try:
            import httpx
        except ImportError:
            raise ExtraMissing(
                "a teacher is asked through httpx, which is not installed;"
                " run `pip install 'mynah[tune]'`."
            ) from None
        limits = httpx.Limits(max_connections=self._concurrency)
        return httpx.AsyncClient(
            # The transport alone may read the environment: for private certificates.
            transport=httpx.AsyncHTTPTransport(limits=limits, trust_env=True),
            trust_env=False,
            timeout=httpx.Timeout(self._timeout_s, connect=min(30.0, self._timeout_s)),
            headers={"authorization": f"Bearer {self._api_key}"} if self._api_key else {},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        """The teacher's reply. Raises `TeacherFailed`."""
        import httpx

        async with self._free:
            for attempt in range(1, self._retry.max_attempts + 1):
                await self._wait_for_pause()
                try:
                    response = await self._client.post(self._url, json=request.to_body(self.model))
                except httpx.TransportError as error:
                    reason = f"cannot be reached ({str(error) or type(error).__name__})"
                    wait_s = self._backoff_s(attempt)
                else:
                    if response.status_code == 200:
                        reply = self._read_reply(response)
                        if reply is not None:
                            return reply
                        reason = "sends no chat completion"
                    elif response.status_code in _PASSING:
                        reason = self._describe(response)
                    elif _error_of(response).get("code") in _REFUSED_PROMPTS:
                        return self._refusal(response)
                    else:
                        raise self._failure(self._describe(response))
                    told_s = self._told_wait_s(response)
                    wait_s = self._backoff_s(attempt) if told_s is None else told_s
                if attempt < self._retry.max_attempts:
                    self.num_retries += 1
                    self._paused_until_s = max(self._paused_until_s, time.monotonic() + wait_s)
        raise self._failure(f"{reason}, after {self._retry.max_attempts} attempts")

    def _failure(self, reason: str) -> TeacherFailed:
        return TeacherFailed(f"The teacher at {self.endpoint} {reason}.")

    async def _wait_for_pause(self) -> None:
        while (left_s := self._paused_until_s - time.monotonic()) > 0:
            await asyncio.sleep(left_s)

    def _backoff_s(self, attempt: int) -> float:
        wait_s = min(self._retry.first_wait_s * 2.0 ** (attempt - 1), self._retry.max_wait_s)
        # Half of it by chance, so that several clients do not come back all at once.
        return wait_s * random.uniform(0.5, 1.0)

    def _told_wait_s(self, response: httpx.Response) -> float | None:
        """What `Retry-After` says, in seconds or as a date. Raises `TeacherFailed` if too long."""
        told = response.headers.get("retry-after")
        if told is None:
            return None
        try:
            wait_s = float(told)
        except ValueError:
            try:
                wait_s = parsedate_to_datetime(told).timestamp() - time.time()
            except ValueError:
                return None
        if wait_s > self._retry.max_retry_after_s:
            raise self._failure(
                f"{self._describe(response)} and wants to be asked again in"
                f" {wait_s / 60:.0f} min; run the same command then"
            )
        return max(wait_s, 0.0)

    def _read_reply(self, response: httpx.Response) -> TeacherReply | None:
        """The reply, or None where the body is no chat completion."""
        try:
            body = response.json()
            choice = body["choices"][0]
            text = str(choice["message"].get("content") or "")
            usage = body.get("usage") or {}
            return TeacherReply(
                # JSON may hold halves of a surrogate pair, which no file takes.
                text=text.encode("utf-8", "replace").decode(),
                finish_reason=str(choice.get("finish_reason") or "stop"),
                model=str(body.get("model") or self.model),
                endpoint=self.endpoint,
                time_s=int(body.get("created") or time.time()),
                num_prompt_tokens=_read_count(usage, "prompt_tokens"),
                num_completion_tokens=_read_count(usage, "completion_tokens"),
            )
        except (LookupError, TypeError, AttributeError, ValueError):
            return None

    def _refusal(self, response: httpx.Response) -> TeacherReply:
        reason = str(_error_of(response)["code"])
        return TeacherReply("", reason, self.model, self.endpoint, int(time.time()), 0, 0)

    def _describe(self, response: httpx.Response) -> str:
        """Status and the endpoint's own words, without the key should it echo it."""
        message = str(_error_of(response).get("message") or response.reason_phrase)
        if self._api_key:
            message = message.replace(self._api_key, "***")
        message = " ".join(message.split())[:300].rstrip(".")
        return f"answers {response.status_code} ({message})"


def endpoint_of(url: str) -> str:
    """Host and port of the endpoint. Raises `TeacherFailed` for what is no plain HTTP URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise TeacherFailed(
            f"{url!r} is no address of an endpoint; give one like http://127.0.0.1:8080/v1.",
            param="teacher",
        )
    if parts.username is not None or parts.password is not None:
        raise TeacherFailed(
            "the teacher's address may hold no password; put the key into MYNAH_TEACHER_API_KEY.",
            param="teacher",
        )
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _error_of(response: httpx.Response) -> Mapping[str, Any]:
    """The `error` object of a body, empty where there is none."""
    try:
        error = response.json()["error"]
    except (LookupError, TypeError, ValueError):
        return {}
    return error if isinstance(error, dict) else {"message": error}


def _read_count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
