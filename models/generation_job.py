"""A generation in its slot: tokens drawn, forced or drafted, until something ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from models.batch import Run
from models.detokenizer import TextStream
from models.drafting import Drafting
from models.drawing import Logits
from models.errors import ModelError
from models.generation import DeltaStream
from models.jobs import Job
from models.logprobs import LogprobTrail, measure_token
from models.protocols import FinishReason, GenerationDelta, GenerationUsage, SamplingSettings
from models.sampling import Sampler
from models.vocabulary import TokenIds, Vocabulary


class GenerationJob(Job):
    """Draws tokens until the model, a stop string or a limit ends it.

    A step takes in what was drawn last, what is forced behind it, and a draft of what may follow;
    as many drawn tokens as agree with the draft are had in that one step.
    """

    # Whether tokens that a grammar leaves no choice about are taken without the model.
    jumps = True

    def __init__(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        settings: SamplingSettings,
        vocabulary: Vocabulary,
        cancel: Callable[[GenerationJob], None],
        *,
        encode: Callable[[str], Sequence[int]] | None = None,
    ) -> None:
        """`encode`: as in `Sampler`. Raises `SamplingInvalid` or `GrammarInvalid`."""
        super().__init__(prompt, len(prompt) + max_tokens)
        self.stream = DeltaStream(lambda: cancel(self))
        self._max_tokens = max_tokens
        self._vocabulary = vocabulary
        self._sampler = Sampler(settings, vocabulary, prompt, encode)
        self._text = TextStream(settings.stop)
        self._num_shown = 0
        self._min_tokens = settings.min_tokens
        self._num_top = settings.num_top_logprobs
        self._trail = LogprobTrail()
        self._tokens: list[int] = []
        self._num_computed = 0
        self._draft: list[int] = []
        self._drafting = Drafting()
        self._truncate: Callable[[int, int], None] | None = None

    def bind(self, truncate: Callable[[int, int], None]) -> None:
        """Allow drafts: `truncate(sequence, num_tokens)` drops the cells of those that failed."""
        self._truncate = truncate

    @property
    def is_answering(self) -> bool:
        """True from the first token on."""
        return not self.is_prefilling

    @property
    def num_said(self) -> int:
        return len(self._tokens)

    @property
    def computed(self) -> TokenIds:
        """The tokens of the prompt and of the answer that a step has taken in."""
        answer = np.array(self._tokens[: self._num_computed], dtype=np.int32)
        return self._share(np.concatenate([self.key[: self.num_prefilled], answer]))

    def _next_runs(self, max_tokens: int, max_outputs: int) -> list[Run]:
        if min(max_tokens, max_outputs) < 1:
            return []
        position = len(self.prompt) + self._num_computed
        due = self._tokens[self._num_computed :]
        is_last = len(due) <= max_tokens
        self._draft = []
        if is_last and self._truncate is not None:
            # All of a draft but its last token can be right without a limit being passed.
            left = self._max_tokens - len(self._tokens)
            room = min(max_tokens - len(due), max_outputs - 1, left - 1)
            self._draft = self._sampler.draft(self._drafting.choose_length(room))
        tokens = np.array([*due[:max_tokens], *self._draft], dtype=np.int32)
        num_outputs = 1 + len(self._draft) if is_last else 0
        return [Run(self, self.held_slot.sequence, position, tokens, num_outputs)]

    def _absorb_prompt(self, logits: Logits) -> bool:
        if not self._max_tokens:
            return self._finish("length", "")
        is_done = self._take_forced()
        return is_done if self._tokens or is_done else self._advance(logits)

    def _absorb(self, run: Run, logits: Logits) -> bool:
        draft = self._draft if run.num_outputs else []
        self._num_computed += len(run.tokens) - len(draft)
        if not run.num_outputs:
            return False
        base, num_right, is_done = len(self._tokens), 0, False
        # As long as everything drawn was drafted, the logits behind it are there too.
        while not is_done and base + num_right == len(self._tokens):
            is_done = self._advance(logits[num_right])
            drawn = self._tokens[base + num_right : base + len(draft)]
            for token, drafted in zip(drawn, draft[num_right:], strict=False):
                if token != drafted:
                    break
                num_right += 1
        self._num_computed += num_right
        if draft:
            self._drafting.observe(len(draft), num_right)
            if num_right < len(draft) and self._truncate is not None:
                self._truncate(self.held_slot.sequence, len(self.prompt) + self._num_computed)
        return is_done

    def _advance(self, logits: Logits) -> bool:
        token = self._sampler.sample(logits)
        if token is not None and self._take(token, logits):
            return True
        num_before = len(self._tokens)
        if self._take_forced():
            return True
        # The grammar's text is complete, and no token of the vocabulary could say so.
        is_stuck = token is None and len(self._tokens) == num_before
        return is_stuck and self._finish("stop", self._text.finish())

    def _take_forced(self) -> bool:
        forced = self._sampler.take_forced(jumps=self.jumps)
        return any(self._take(token) for token in forced)

    def _take(self, token: int, logits: Logits | None = None) -> bool:
        """Add a token to the answer, drawn from `logits` unless forced; whether that ends it."""
        if self._vocabulary.is_eog(token):
            return self._finish("stop", self._text.finish())
        self._tokens.append(token)
        may_stop = len(self._tokens) >= self._min_tokens
        text = self._text.push(self._vocabulary.piece(token), may_stop=may_stop)
        if self._num_top is not None and logits is not None:
            measured = measure_token(token, logits, self._num_top, self._vocabulary)
            self._trail.add(measured, self._text.num_decoded, is_partial=self._text.is_partial)
        if self._text.is_stopped:
            return self._finish("stop", text)
        if len(self._tokens) >= self._max_tokens:
            return self._finish("length", text + self._text.finish())
        if text:
            self._num_shown += len(text)
            self.stream.put(GenerationDelta(text, logprobs=self._trail.take(self._num_shown)))
        return False

    def _finish(self, reason: FinishReason, text: str) -> bool:
        trail, num_shown = self._trail, self._num_shown + len(text)
        logprobs = trail.take_begun(num_shown) if self._text.is_stopped else trail.take_all()
        self.stream.put(GenerationDelta(text, reason, self._usage(), logprobs))
        return True

    def _usage(self) -> GenerationUsage:
        now = time.monotonic()
        was_admitted = self.slot is not None
        admitted_at = self.admitted_at if was_admitted else now
        prefilled_at = now if self.is_prefilling else self.prefilled_at
        return GenerationUsage(
            num_prompt_tokens=len(self.prompt),
            num_cached_tokens=self.num_cached,
            num_completion_tokens=len(self._tokens),
            queue_ms=1000 * (admitted_at - self.submitted_at),
            prefill_ms=1000 * (prefilled_at - admitted_at),
            decode_ms=1000 * (now - prefilled_at),
        )

    def cancel(self) -> None:
        self._finish("cancelled", "")

    def fail(self, error: ModelError) -> None:
        self.stream.fail(error)

    def free(self) -> None:
        super().free()
        self._sampler.free()
