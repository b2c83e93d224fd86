"""GBNF grammars: which tokens may come next."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import GrammarInvalid
from models.llama import keep_errors, library
from models.vocabulary import TokenIds, Vocabulary

Candidates = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

_MAX_GRAMMAR_BYTES = 1 << 20
# llama.cpp parses groups by recursion: thousands of open brackets would end the process.
_MAX_NESTING = 200
# Processor time that one question may take, and all of a request's slow ones together. Slow is one
# that takes longer than a call and its tokens usually do; before the next a few tokens are tried.
_MAX_CALL_S = 1.0
_MAX_SLOW_S = 3.0
_CALL_S = 1e-3
_SLOW_TOKEN_S = 2e-5
_NUM_PROBED = 64
_ERROR_MARK = b"error parsing grammar: "

# The parser prints to the process's standard error, of which there is one.
_stderr_guard = threading.Lock()


class Grammar:
    """The state of one generation's grammar. Freed by `free`; used by one thread at a time."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        """Parse `text` with its rule `root`. Raises `GrammarInvalid`."""
        self._lib = library()
        self._sampler: Any = _parse(text, vocabulary)
        self._data = np.zeros(64, dtype=Candidates)
        self._is_slow = True
        self._slow_s = 0.0

    def allows(self, ids: TokenIds) -> npt.NDArray[np.bool_]:
        """For each token id, whether the grammar lets it come next; same shape.

        Raises `GrammarInvalid` before a call that would hold up everybody.
        """
        self._check_slowness()
        if self._is_slow:
            self._foresee(ids)
        began = time.thread_time()
        allowed = self._ask(ids)
        spent_s = time.thread_time() - began
        self._is_slow = spent_s > _CALL_S + _SLOW_TOKEN_S * len(ids)
        self._slow_s += spent_s if self._is_slow else 0.0
        return allowed

    def _foresee(self, ids: TokenIds) -> None:
        """Ask for a few first: where the text can be read in many ways, each takes long."""
        # Once may have been chance.
        if len(ids) > _NUM_PROBED and all(self._would_last(ids) for _ in range(3)):
            raise _too_ambiguous()

    def _would_last(self, ids: TokenIds) -> bool:
        one_s = self._time(ids[:1])
        if one_s * _NUM_PROBED > _MAX_CALL_S:
            return True
        few_s = self._time(ids[:_NUM_PROBED])
        # A call has a cost of its own, which does not grow with the ids.
        return few_s + (few_s - one_s) * len(ids) / _NUM_PROBED > _MAX_CALL_S

    def _time(self, ids: TokenIds) -> float:
        began = time.thread_time()
        self._ask(ids)
        return time.thread_time() - began

    def _ask(self, ids: TokenIds) -> npt.NDArray[np.bool_]:
        if len(ids) > len(self._data):
            self._data = np.zeros(len(ids), dtype=Candidates)
        data = self._data[: len(ids)]
        data["id"], data["logit"] = ids, 0.0
        self._lib.llama_sampler_apply(self._sampler, ctypes.byref(candidate_array(data)))
        return np.asarray(data["logit"] == 0.0)

    def accept(self, token: int) -> None:
        """Move behind a token that `allows` has let through; any other would end the process.

        Raises as `allows` does.
        """
        self._check_slowness()
        began = time.thread_time()
        self._lib.llama_sampler_accept(self._sampler, token)
        spent_s = time.thread_time() - began
        self._slow_s += spent_s if spent_s > _CALL_S else 0.0

    def _check_slowness(self) -> None:
        if self._slow_s > _MAX_SLOW_S:
            raise _too_ambiguous()

    def free(self) -> None:
        """Give the memory back. Idempotent."""
        if self._sampler is not None:
            self._lib.llama_sampler_free(self._sampler)
            self._sampler = None


def candidate_array(data: npt.NDArray[Any]) -> Any:
    """A `llama_token_data_array` over `data` (dtype `Candidates`), which must outlive it."""
    lib = library()
    return lib.llama_token_data_array(
        data=data.ctypes.data_as(ctypes.POINTER(lib.llama_token_data)),
        size=len(data),
        selected=-1,
        sorted=False,
    )


def _parse(text: str, vocabulary: Vocabulary) -> Any:
    data = text.encode("utf-8", "replace")
    if not data.strip():
        raise _invalid("it is empty")
    if b"\0" in data:
        raise _invalid("it contains a NUL character")
    if len(data) > _MAX_GRAMMAR_BYTES:
        raise _invalid(f"it has {len(data)} bytes, {_MAX_GRAMMAR_BYTES} are the most")
    if _nesting(text) > _MAX_NESTING:
        raise _invalid(f"its groups are nested more than {_MAX_NESTING} deep")
    with keep_errors() as errors, _caught_parser_output(data) as printed:
        sampler = library().llama_sampler_init_grammar(vocabulary.pointer, data, b"root")
    if not sampler:
        reasons = [*printed, *errors, "no reason given"]
        reason = " ".join(reasons[0].split())[:200]
        # The parser quotes what follows the error, which at the end is nothing.
        raise _invalid(f"{reason} the end" if reason.endswith(" at") else reason)
    return sampler


def _nesting(text: str) -> int:
    """An upper bound for the depth of groups: brackets inside literals are counted too."""
    deepest = depth = 0
    for character in text:
        if character == "(":
            depth += 1
            deepest = max(deepest, depth)
        elif character == ")":
            depth = max(depth - 1, 0)
    return deepest


@contextlib.contextmanager
def _caught_parser_output(source: bytes) -> Iterator[list[str]]:
    """Catch what the parser prints: the whole grammar, which may hold text of documents."""
    printed: list[str] = []
    with _stderr_guard, tempfile.TemporaryFile() as sink:
        try:
            saved = os.dup(2)
        except OSError:  # A process without standard error prints nothing.
            yield printed
            return
        os.dup2(sink.fileno(), 2)
        try:
            yield printed
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            output = sink.read()
            start = output.find(_ERROR_MARK)
            if start >= 0:
                printed.append(_first_line(output[start + len(_ERROR_MARK) :]))
                shown = b"\n\n" + source
                end = output.find(shown, start) + len(shown)
                # What other threads wrote meanwhile is theirs to show.
                output = output[: output.rfind(b"\n", 0, start) + 1] + output[end + 1 :]
            if output:
                os.write(2, output)


def _first_line(text: bytes) -> str:
    return text.split(b"\n", 1)[0].decode("utf-8", "replace")


def _invalid(reason: str) -> GrammarInvalid:
    return GrammarInvalid(f"The grammar does not parse: {reason}.", param="grammar")


def _too_ambiguous() -> GrammarInvalid:
    return GrammarInvalid(
        "The grammar reads the text in too many ways to be followed; make it less ambiguous.",
        param="grammar",
    )
