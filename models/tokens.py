"""Segment-wise tokenisation: scaffold is parsed for control tokens, content never.

llama.cpp alone does not promise the second half: with `parse_special` off it still matches
user-defined tokens (Phi's role marks are of that kind), and SentencePiece merges may arrive at a
control token's text. So what comes out for content is checked, and cut apart where needed.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from models.errors import PromptInvalid
from models.marking import Segment
from models.protocols import Block, Message, Prompt, PromptDocument
from models.template import ChatTemplate
from models.vocabulary import TokenIds, Vocabulary

_PROBES = (
    ("system", "user", "assistant", "user"),
    ("user", "assistant", "user"),
    ("user",),
)
# To look a shorter text up is no faster than to tokenise it.
_LEAST_REMEMBERED = 200
# Four bytes each.
_MAX_REMEMBERED_TOKENS = 1 << 20


class PromptTokenizer:
    """Turns conversations into token ids with one vocabulary and one chat template."""

    def __init__(self, vocabulary: Vocabulary, template: ChatTemplate) -> None:
        self.vocabulary = vocabulary
        self.template = template
        self._known = _KnownTexts()

    def prepare(
        self,
        messages: Sequence[Message],
        documents: Sequence[PromptDocument] = (),
        *,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """Return the ids of a rendered conversation, BOS as the vocabulary asks for it."""
        taken, segments = self.template.fit(
            messages, documents, add_generation_prompt=add_generation_prompt
        )
        runs = self.encode_runs(segments)
        plain = [token for _, ids in runs for token in ids]
        ids = self.with_bos(plain)
        owners = [document.owner for document in documents]
        return Prompt(tuple(ids), _find_blocks(runs, len(ids) - len(plain), len(taken), owners))

    def encode(self, segments: Iterable[Segment]) -> list[int]:
        """Token ids of the segments, joined."""
        return [token for _, ids in self.encode_runs(segments) for token in ids]

    def encode_runs(self, segments: Iterable[Segment]) -> list[tuple[Segment, list[int]]]:
        """Each run of scaffold or content, as it is joined for tokenising, with its token ids."""
        runs: list[tuple[Segment, list[int]]] = []
        last: int | None = None
        for run in _join_for_tokenising(segments):
            follows_text = last is not None and not self.vocabulary.is_special(last)
            if run.is_content:
                ids = self.encode_content(run.text, follows_text=follows_text)
            else:
                ids = self._tokenize(run.text, parse_special=True, follows_text=follows_text)
            runs.append((run, ids))
            last = ids[-1] if ids else last
        return runs

    def encode_continuations(self, prompt: Prompt, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text as it goes on where `prompt` ends."""
        # That is often right behind a control token.
        follows_text = not self.vocabulary.is_special(prompt.tokens[-1])
        return [self.encode_content(text, follows_text=follows_text) for text in texts]

    def encode_content(self, text: str, *, follows_text: bool = False) -> list[int]:
        """Token ids of data, without any id that the model takes for control.

        Those of passages and of earlier turns come again and again: long texts are remembered.
        """
        if len(text) < _LEAST_REMEMBERED:
            return self._encode_content(text, follows_text=follows_text)
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        ids = self._known.get((key, follows_text))
        if ids is None:
            ids = self._encode_content(text, follows_text=follows_text)
            self._known.put((key, follows_text), ids)
        return ids

    def forget(self) -> None:
        """Forget the tokens of every text, as when one of them was deleted."""
        self._known.clear()

    def _encode_content(self, text: str, *, follows_text: bool) -> list[int]:
        ids = self._tokenize(text, parse_special=False, follows_text=follows_text)
        if self.forbidden_ids.isdisjoint(ids):
            return ids
        parts = self._cut(text)
        if len(parts) == 1:
            # One character that is itself a control token's text: it has no harmless form.
            return [token for token in ids if token not in self.forbidden_ids]
        clean: list[int] = []
        for part in parts:
            clean += self._encode_content(part, follows_text=follows_text or bool(clean))
        return clean

    @cached_property
    def forbidden_ids(self) -> frozenset[int]:
        """Ids that content may not become: control, end of generation, scaffold's own marks."""
        control = self.vocabulary.control_ids.tolist()
        return frozenset({*control, *self.vocabulary.eog_ids.tolist(), *self._scaffold_marks()})

    @cached_property
    def _forbidden_texts(self) -> re.Pattern[str]:
        texts = (
            self.vocabulary.piece_with_control(token).decode("utf-8", "replace")
            for token in self.forbidden_ids
        )
        longest_first = sorted((text for text in texts if len(text) > 1), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def _cut(self, text: str) -> list[str]:
        """`text` cut inside every forbidden text, or in halves if a merge made one."""
        cuts = [match.start() + 1 for match in self._forbidden_texts.finditer(text)]
        if not cuts:
            cuts = [len(text) // 2]
        bounds = [0, *cuts, len(text)]
        parts = [text[a:b] for a, b in pairwise(bounds)]
        return [part for part in parts if part]

    def _scaffold_marks(self) -> set[int]:
        """User-defined tokens with which the template marks roles and turns."""
        marks: set[int] = set()
        document = PromptDocument("title", "text")
        for roles in _PROBES:
            try:
                segments = self.template.render(
                    [Message(role, "text") for role in roles], [document]
                )
            except PromptInvalid:
                continue
            for run in segments:
                if not run.is_content:
                    marks.update(self.vocabulary.tokenize(run.text, parse_special=True))
        vocabulary = self.vocabulary
        return {
            t
            for t in marks
            if vocabulary.is_user_defined(t) and vocabulary.text(t).strip("▁ \n\tĠĊ")
        }

    def _tokenize(self, text: str, *, parse_special: bool, follows_text: bool) -> list[int]:
        prefix = self.vocabulary.space_prefix_ids
        if follows_text and prefix is not None:
            # SentencePiece would put a space in front, which belongs to the start of a text only.
            ids = self.vocabulary.tokenize("\n" + text, parse_special=parse_special)
            if tuple(ids[: len(prefix)]) == prefix:
                return ids[len(prefix) :]
        return self.vocabulary.tokenize(text, parse_special=parse_special)

    def with_bos(self, ids: list[int]) -> list[int]:
        """The ids of a whole prompt, with one BOS in front where the vocabulary wants it."""
        bos = self.vocabulary.bos_id
        if not self.vocabulary.adds_bos:
            return ids
        start = next((i for i, token in enumerate(ids) if token != bos), len(ids))
        return [bos, *ids[start:]]


class _KnownTexts:
    """Token ids by the hash of their text, the least recently used first. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: OrderedDict[tuple[bytes, bool], TokenIds] = OrderedDict()
        self._num_tokens = 0

    def get(self, key: tuple[bytes, bool]) -> list[int] | None:
        with self._lock:
            found = self._ids.get(key)
            if found is None:
                return None
            self._ids.move_to_end(key)
        ids: list[int] = found.tolist()
        return ids

    def put(self, key: tuple[bytes, bool], ids: Sequence[int]) -> None:
        with self._lock:
            if key in self._ids or len(ids) > _MAX_REMEMBERED_TOKENS:
                return
            self._ids[key] = np.array(ids, dtype=np.int32)
            self._num_tokens += len(ids)
            while self._num_tokens > _MAX_REMEMBERED_TOKENS:
                _, dropped = self._ids.popitem(last=False)
                self._num_tokens -= len(dropped)

    def clear(self) -> None:
        with self._lock:
            self._ids.clear()
            self._num_tokens = 0


def open_tokenizer(vocabulary: Vocabulary, template: str) -> PromptTokenizer:
    """The tokenizer of a GGUF's chat template, ready to use. Raises `ModelFileInvalid`."""
    bos, eos = vocabulary.text(vocabulary.bos_id), vocabulary.text(vocabulary.eos_id)
    tokenizer = PromptTokenizer(vocabulary, ChatTemplate(template, bos=bos, eos=eos))
    # Computed now, so that the first request does not pay for it.
    _ = tokenizer.forbidden_ids
    return tokenizer


def _join_for_tokenising(segments: Iterable[Segment]) -> list[Segment]:
    """Merge neighbours of one source, and move the space before a content into it.

    Vocabularies hold words with the space in front of them; a lone space before a word is
    something the model never saw.
    """
    joined: list[Segment] = []
    for run in segments:
        if not run.text:
            continue
        last = joined[-1] if joined else None
        if last is None:
            joined.append(run)
        elif last.source == run.source:
            joined[-1] = Segment(last.text + run.text, last.source)
        elif (
            run.is_content
            and not last.is_content
            and last.text.endswith(" ")
            and not run.text[0].isspace()
        ):
            joined[-1:] = [Segment(last.text[:-1]), Segment(" " + run.text, run.source)]
        else:
            joined.append(run)
    return [run for run in joined if run.text]


def _find_blocks(
    runs: Sequence[tuple[Segment, Sequence[int]]],
    shift: int,
    num_messages: int,
    owners: Sequence[str],
) -> tuple[Block, ...]:
    """Where each document stands; none if they do not stand one behind the other.

    `shift` ids were put in front of the runs. Scaffold between a title and its text belongs to it.
    """
    spans: dict[int, tuple[int, int]] = {}
    position = shift
    for run, ids in runs:
        end = position + len(ids)
        if run.source is not None and run.source >= num_messages:
            start = spans[run.source][0] if run.source in spans else position
            spans[run.source] = (start, end)
        position = end
    blocks = [
        Block(start, end, owners[source - num_messages])
        for source, (start, end) in sorted(spans.items())
    ]
    is_ordered = all(a.end <= b.start for a, b in pairwise(blocks))
    return tuple(block for block in blocks if block.end > block.start) if is_ordered else ()
