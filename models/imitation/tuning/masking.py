"""Conversations as token ids with labels: what the engine will render, loss on the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import PromptInvalid
from models.imitation.conversations import Conversation
from models.imitation.tuning.block_attention import Blocks, PassageBlocks, Span, spans_of
from models.imitation.tuning.templates import find_turn_end
from models.marking import Segment
from models.protocols import Message, PromptDocument
from models.tokens import PromptTokenizer

IGNORED = -100
_CALLS = ("tool_calls", "function_call")


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids `[length]`, labels (the id where a loss is taken, else `IGNORED`) and blocks.

    `blocks` number the passages from 1 under block attention and are 0 everywhere else.
    """

    ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]
    blocks: Blocks

    @property
    def num_labels(self) -> int:
        return int((self.labels != IGNORED).sum())

    def cut(self, length: int) -> Example:
        """The first `length` ids."""
        return Example(self.ids[:length], self.labels[:length], self.blocks[:length])


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation as the template takes it: messages up to the last answer, and documents."""

    messages: list[Message]
    documents: list[PromptDocument]


class Encoder:
    """Turns conversations into examples of at most `max_length` ids and counts what is left out.

    `counts` says `conversations`, `examples`, `turns` (assistant turns trained on), `turns_cut`
    (behind `max_length`), and conversations that are `too_long` before their first answer ends,
    `refused` by the template, hold `tool_calls` or have `no_answer`.
    """

    def __init__(
        self, tokenizer: PromptTokenizer, max_length: int, *, block_attention: bool = False
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.turn_end = find_turn_end(tokenizer)
        self.counts: Counter[str] = Counter()
        self._passages = PassageBlocks(tokenizer) if block_attention else None

    def encode_all(self, conversations: Iterable[Conversation]) -> Iterator[Example]:
        """Yield the examples of each conversation."""
        for conversation in conversations:
            yield from self.encode(conversation)

    def encode(self, conversation: Conversation) -> list[Example]:
        """Return one example, or one for each answer where the template rewrites what came before.

        Serving renders the conversation up to a question; what it would render must be what
        stands in front of the answer here.
        """
        self.counts["conversations"] += 1
        dialogue = to_dialogue(conversation)
        if any(call in turn.extra for turn in conversation.turns for call in _CALLS):
            return self._leave_out("tool_calls")
        if not dialogue.messages:
            return self._leave_out("no_answer")
        try:
            parts, num_turns = self._encode(dialogue)
        except PromptInvalid:
            return self._leave_out("refused")
        kept = [example for example in map(self._fit, parts) if example is not None]
        if not kept:
            return self._leave_out("too_long")
        num_kept = sum(len(self._ends(example)) for example in kept)
        self.counts["examples"] += len(kept)
        self.counts["turns"] += num_kept
        self.counts["turns_cut"] += num_turns - num_kept
        return kept

    def _leave_out(self, reason: str) -> list[Example]:
        self.counts[reason] += 1
        return []

    def _encode(self, dialogue: Dialogue) -> tuple[list[Example], int]:
        """The examples and the number of answers in them."""
        tokenizer = self.tokenizer
        messages, segments = tokenizer.template.fit(
            dialogue.messages, dialogue.documents, add_generation_prompt=False
        )
        documents = dialogue.documents
        runs = tokenizer.encode_runs(segments)
        plain = [token for _, part in runs for token in part]
        ids = tokenizer.with_bos(plain)
        spans = spans_of(runs, len(ids) - len(plain))
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        if not self.turn_end.is_written:
            ids = [*ids, *self.turn_end.ids]
        labels = np.full(len(ids), IGNORED, np.int32)
        for index in answers:
            place = self._locate(ids, spans, index, is_last=index == answers[-1])
            if place is None or not self._is_served_so(
                ids[: place[0]], messages[:index], documents
            ):
                return self._encode_apart(messages, segments, documents, answers), len(answers)
            labels[place[0] : place[1]] = ids[place[0] : place[1]]
        blocks = self._blocks(ids, spans, messages, documents)
        return [Example(np.array(ids, np.int32), labels, blocks)], len(answers)

    def _locate(
        self, ids: Sequence[int], spans: Sequence[Span], index: int, *, is_last: bool
    ) -> tuple[int, int] | None:
        """Start and end of an answer with the ids that end it; None where they are missing."""
        own = [span for span in spans if span.source == index]
        if not own:
            return None
        start, end = own[0].start, own[-1].end
        closing = self.turn_end.ids
        if tuple(ids[end : end + len(closing)]) == closing:
            return start, end + len(closing)
        return (start, end) if not self.turn_end.is_written and not is_last else None

    def _is_served_so(
        self, before: list[int], messages: list[Message], documents: list[PromptDocument]
    ) -> bool:
        # An answer that nobody asked for is never served; nothing says what belongs before it.
        return not messages or list(self.tokenizer.prepare(messages, documents).tokens) == before

    def _encode_apart(
        self,
        messages: list[Message],
        segments: Sequence[Segment],
        documents: list[PromptDocument],
        answers: Sequence[int],
    ) -> list[Example]:
        """An example for each answer: the prompt as served, the answer and its end."""
        examples = []
        for index in answers:
            text = "".join(run.text for run in segments if run.source == index)
            if not index or not text.strip():
                continue
            prompt = list(self.tokenizer.prepare(messages[:index], documents).tokens)
            follows = not self.tokenizer.vocabulary.is_special(prompt[-1])
            answer = [
                *self.tokenizer.encode_content(text, follows_text=follows),
                *self.turn_end.ids,
            ]
            labels = np.array([IGNORED] * len(prompt) + answer, np.int32)
            ids = [*prompt, *answer]
            rendered = self.tokenizer.template.render(messages[:index], documents)
            runs = self.tokenizer.encode_runs(rendered)
            shift = len(prompt) - sum(len(part) for _, part in runs)
            blocks = self._blocks(ids, spans_of(runs, shift), messages[:index], documents)
            examples.append(Example(np.array(ids, np.int32), labels, blocks))
        return examples

    def _blocks(
        self,
        ids: Sequence[int],
        spans: Sequence[Span],
        messages: Sequence[Message],
        documents: Sequence[PromptDocument],
    ) -> Blocks:
        if self._passages is None or not documents:
            return np.zeros(len(ids), np.int16)
        return self._passages.find(ids, spans, messages, len(documents))

    def _fit(self, example: Example) -> Example | None:
        """The example up to the last answer that ends within `max_length`; None if none does."""
        if len(example.ids) <= self.max_length:
            return example
        ends = [end for end in self._ends(example) if end <= self.max_length]
        return example.cut(ends[-1]) if ends else None

    def _ends(self, example: Example) -> list[int]:
        """Where the runs of labels end."""
        is_label = np.append(example.labels != IGNORED, False)
        return [int(i) for i in np.flatnonzero(is_label[:-1] & ~is_label[1:]) + 1]


def to_dialogue(conversation: Conversation) -> Dialogue:
    """Return the turns up to the last answer that has words, with the passages as documents."""
    turns = list(conversation.turns)
    while turns and not (turns[-1].role == "assistant" and turns[-1].content.strip()):
        turns.pop()
    return Dialogue(
        [Message(turn.role, turn.content) for turn in turns],
        [PromptDocument(passage.title, passage.text) for passage in conversation.passages],
    )
