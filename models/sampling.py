"""One request's way from logits to the next token.

Order: logit bias and penalties, grammar, then the cuts and the draw (`models.drawing`). The grammar
masks before anything is cut or drawn, so that a constrained draw has exactly the distribution of
the model over the allowed tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from models.copying import PromptPointer
from models.drawing import Logits, TokenDrawer, check_finite
from models.errors import ModelError
from models.forcing import GrammarFollower
from models.outline import Outline
from models.protocols import SamplingSettings
from models.sampling_checks import check_sampling
from models.vocabulary import Vocabulary

# The best candidates are asked of the grammar first: one, a few, then all.
_SEARCH_WIDTHS = (1, 64, 2048)


class Sampler:
    """The sampling state of one generation. Freed by `free`; used by one thread at a time."""

    def __init__(
        self,
        settings: SamplingSettings,
        vocabulary: Vocabulary,
        prompt: Sequence[int] = (),
        encode: Callable[[str], Sequence[int]] | None = None,
    ) -> None:
        """Copies and drafts from `prompt`; `encode` gives text inside an answer as tokens.

        By default the vocabulary's own, which knows of no marks that content may not become. Raises
        `SamplingInvalid` or `GrammarInvalid`.
        """
        check_sampling(settings, vocabulary.num_vocab)
        self._settings = settings
        self._vocabulary = vocabulary
        self._bias_ids = np.fromiter(settings.logit_bias.keys(), dtype=np.int32)
        self._biases = np.fromiter(settings.logit_bias.values(), dtype=np.float32)
        self._num_seen: dict[int, int] = {}
        self._has_penalties = (
            settings.repeat_penalty != 1.0
            or settings.frequency_penalty != 0.0
            or settings.presence_penalty != 0.0
        )
        self._encode = encode or partial(vocabulary.tokenize, parse_special=False)
        self._pointer = PromptPointer(prompt, self._ends_run)
        self._outline = (
            Outline(settings.outline, vocabulary, self._encode) if settings.outline else None
        )
        self._grammar = (
            GrammarFollower(settings.grammar, vocabulary, self._encode)
            if settings.grammar
            else None
        )
        # Every token of which a probability is asked has to be sampled.
        self._jumps = settings.num_top_logprobs is None
        self._num_said = 0
        # Kept, as a new array of a vocabulary's size costs more than copying into it.
        self._scores = np.empty(0, dtype=np.float32)
        self._drawer = TokenDrawer(settings) if settings.temperature > 0 else None

    def sample(self, logits: Logits) -> int | None:
        """Return the next token for logits of shape `(num_vocab,)`, which stay unchanged.

        None where the grammar is complete and the vocabulary has no token to say so, and where the
        outline goes on instead (see `take_forced`). Raises `ModelError` where no token can follow.
        """
        scores = self._adjust(logits)
        if self._grammar is not None:
            token = self._choose_allowed(scores, self._grammar)
            if token is not None:
                self._grammar.accept(token)
        else:
            token = self._choose(scores)
            if self._outline is not None and not self._outline.accepts(token):
                return None
        if token is not None:
            self._note(token)
        return token

    def take_forced(self, *, jumps: bool = True) -> list[int]:
        """Tokens that come next whatever the model thinks; call it before each `sample`.

        With a grammar that leaves one continuation the text is that of `sample`, its tokens are
        those that the text usually has. The last one ends the generation where nothing else can
        follow. Without `jumps` the model draws them one by one.
        """
        if self._outline is not None:
            tokens = self._outline.take()
        elif self._grammar is not None and jumps and self._jumps:
            tokens = self._grammar.take_forced()
        else:
            return []
        for token in tokens:
            self._note(token)
        return tokens

    def draft(self, num_tokens: int) -> list[int]:
        """At most so many tokens that may come next, because they do in the prompt."""
        return self._pointer.follow(num_tokens) if num_tokens else []

    def _note(self, token: int) -> None:
        self._num_said += 1
        self._pointer.accept(token)
        if self._has_penalties:
            self._num_seen[token] = self._num_seen.get(token, 0) + 1

    def free(self) -> None:
        """Give the memory back. Idempotent."""
        if self._grammar is not None:
            self._grammar.free()

    def _ends_run(self, token: int) -> bool:
        piece = self._vocabulary.piece(token)
        return not piece or piece[:1] in (b"\n", b"\r", b"\t")

    def _adjust(self, logits: Logits) -> Logits:
        copied = self._pointer.next_tokens() if self._settings.copy_bias else []
        is_early = self._num_said < self._settings.min_tokens
        is_changed = self._num_seen or len(self._bias_ids) or copied or is_early
        if not is_changed and self._grammar is None:
            return logits
        if len(self._scores) != len(logits):
            self._scores = np.empty_like(logits)
        scores = self._scores
        scores[:] = logits
        scores[copied] += self._settings.copy_bias
        scores[self._bias_ids] += self._biases
        if self._num_seen:
            self._penalise(scores)
        if self._grammar is not None:
            # A grammar matches a control token by its text, which the reader would never see.
            scores[self._vocabulary.silent_control_ids] = -np.inf
        if is_early:
            scores[self._vocabulary.eog_ids] = -np.inf
        return scores

    def _penalise(self, scores: Logits) -> None:
        """Penalise what this generation has said, the prompt not counted."""
        settings = self._settings
        ids = np.fromiter(self._num_seen.keys(), dtype=np.int32)
        counts = np.fromiter(self._num_seen.values(), dtype=np.float32)
        seen = scores[ids]
        # Dividing a negative logit would make the token likelier.
        seen = np.where(seen <= 0, seen * settings.repeat_penalty, seen / settings.repeat_penalty)
        scores[ids] = seen - counts * settings.frequency_penalty - settings.presence_penalty

    def _choose(self, scores: Logits) -> int:
        if self._drawer is None:
            return check_finite(scores, int(np.argmax(scores)))
        return self._drawer.draw(scores)

    def _choose_allowed(self, scores: Logits, grammar: GrammarFollower) -> int | None:
        while True:
            token = self._find_allowed(scores, grammar)
            if token is None or grammar.spells(token):
                return token
            scores[token] = -np.inf

    def _find_allowed(self, scores: Logits, grammar: GrammarFollower) -> int | None:
        if self._drawer is None:
            token = _best_allowed(scores, grammar)
            if token is not None:
                return token
        else:
            ids = np.flatnonzero(scores > -np.inf).astype(np.int32)
            ids = grammar.allows(ids)
            if len(ids):
                return int(ids[self._drawer.draw(scores[ids])])
        if not len(self._vocabulary.eog_ids):
            return None
        raise ModelError("The grammar leaves no token of this model's vocabulary to go on with.")


def _best_allowed(scores: Logits, grammar: GrammarFollower) -> int | None:
    """The likeliest token that the grammar allows: the same as masking all of them first."""
    for width in (*_SEARCH_WIDTHS, len(scores)):
        if width == 1:
            ids = np.array([np.argmax(scores)], dtype=np.int32)
        elif width < len(scores):
            ids = np.argpartition(scores, -width)[-width:].astype(np.int32)
        else:
            ids = np.arange(len(scores), dtype=np.int32)
        ids = np.sort(ids[scores[ids] > -np.inf])
        ids = grammar.allows(ids)
        if len(ids):
            return int(ids[np.argmax(scores[ids])])
    return None
