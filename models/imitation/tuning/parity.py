"""Whether the exported model reads and writes what the trained one does."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.detokenizer import TextStream
from models.engine_settings import EngineSettings
from models.errors import PromptInvalid
from models.imitation.errors import ExportFailed
from models.imitation.tuning.checkpoint import Checkpoint
from models.imitation.tuning.masking import Dialogue
from models.imitation.tuning.vocabulary import composes, metaspace_scheme
from models.loaded_model import LoadedModel
from models.protocols import Message, Prompt, SamplingSettings
from models.tokens import PromptTokenizer

if TYPE_CHECKING:
    from models.engine import LlamaEngine

NUM_STRINGS, NUM_PROMPTS, NUM_GREEDY_TOKENS, GREEDY_BAR = 1000, 50, 32, 0.95


@dataclass(frozen=True, slots=True)
class Parity:
    """Counts of what is equal; `first_difference` is empty where everything is."""

    num_strings: int
    num_equal_strings: int
    num_prompts: int
    num_equal_prompts: int
    first_difference: str = ""

    @property
    def greedy_share(self) -> float:
        return self.num_equal_prompts / self.num_prompts if self.num_prompts else 0.0

    def check(self) -> None:
        """Raise `ExportFailed` unless all ids and 95 % of the greedy texts are equal."""
        if self.num_equal_strings < self.num_strings:
            raise ExportFailed(
                f"the GGUF splits {self.num_strings - self.num_equal_strings} of"
                f" {self.num_strings} strings into other tokens: {self.first_difference}"
            )
        if self.greedy_share < GREEDY_BAR:
            raise ExportFailed(
                f"the GGUF answers {self.num_prompts - self.num_equal_prompts} of"
                f" {self.num_prompts} prompts otherwise than the checkpoint:"
                f" {self.first_difference}"
            )


def own_form(tokenizer_json: str) -> Callable[[str], str]:
    """Return what the tokenizer itself does to a text first and llama.cpp does not.

    That is to compose characters, and to take a space at the start for SentencePiece's own.
    """
    data = json.loads(tokenizer_json)
    is_composed, has_space = composes(data), metaspace_scheme(data) in ("first", "always")

    def change(text: str) -> str:
        text = unicodedata.normalize("NFC", text) if is_composed else text
        return text.lstrip(" ") if has_space else text

    return change


def compare_strings(
    checkpoint: Checkpoint, gguf: Path, strings: Sequence[str]
) -> tuple[int, str, list[int]]:
    """Return how many strings have equal ids, the first difference, and the ids that end a text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    change = own_form(checkpoint.tokenizer_json)
    model = LoadedModel(EngineSettings(path=gguf))
    num_equal, difference = 0, ""
    try:
        with model.use() as vocabulary:
            for text in strings:
                clean = change(text)
                expected = tokenizer.encode(clean, add_special_tokens=False).ids
                found = vocabulary.tokenize(clean, parse_special=False)
                num_equal += found == expected
                if found != expected and not difference:
                    difference = f"{clean[:80]!r} is {expected[:12]} and became {found[:12]}."
            return num_equal, difference, vocabulary.eog_ids.tolist()
    finally:
        model.free()


def make_prompts(
    tokenizer: PromptTokenizer,
    dialogues: Sequence[Dialogue],
    fillers: Sequence[str],
    max_tokens: int,
) -> list[tuple[Prompt, Dialogue]]:
    """Return `NUM_PROMPTS` prompts of at most `max_tokens`: of dialogues, then of fillers."""
    wanted = [
        Dialogue(dialogue.messages[:index], dialogue.documents)
        for dialogue in dialogues
        for index, message in enumerate(dialogue.messages)
        if index and message.role == "assistant"
    ]
    wanted += [Dialogue([Message("user", text)], []) for text in fillers if text.strip()]
    prompts: list[tuple[Prompt, Dialogue]] = []
    for dialogue in wanted:
        try:
            prompt = tokenizer.prepare(dialogue.messages, dialogue.documents)
        except PromptInvalid:
            continue
        if prompt.num_tokens <= max_tokens:
            prompts.append((prompt, dialogue))
        if len(prompts) == NUM_PROMPTS:
            break
    return prompts


def compare_greedy(
    model: Any,
    engine: LlamaEngine,
    tokenizer: PromptTokenizer,
    prompts: Sequence[tuple[Prompt, Dialogue]],
    eog_ids: Sequence[int],
) -> tuple[int, str]:
    """Return how many prompts read equal and are answered with equal text, and what differs first.

    Greedy, `NUM_GREEDY_TOKENS` tokens. The checkpoint's ids become text as the engine's do, byte
    by byte: `tokenizers` makes marks of good bytes too where a bad one is beside them.
    """
    num_equal, difference = 0, ""
    for prompt, dialogue in prompts:
        served = engine.prepare(dialogue.messages, dialogue.documents)
        stream, vocabulary = TextStream(), tokenizer.vocabulary
        ids = greedy_ids(model, prompt.tokens, eog_ids)
        expected = "".join(stream.push(vocabulary.piece(token)) for token in ids)
        deltas = engine.generate(served, SamplingSettings(max_tokens=NUM_GREEDY_TOKENS))
        found = "".join(delta.text for delta in deltas)
        # An engine may leave out the space that SentencePiece puts in front of a first word.
        is_equal = served == prompt and found.strip() == expected.strip()
        num_equal += is_equal
        if not is_equal and not difference:
            difference = (
                "the prompt has other tokens."
                if served != prompt
                else f"{expected[:80]!r} became {found[:80]!r}."
            )
    return num_equal, difference


def greedy_ids(model: Any, ids: Sequence[int], eog_ids: Sequence[int]) -> list[int]:
    """Return the likeliest next ids, up to one that ends a text or `NUM_GREEDY_TOKENS`."""
    import torch

    found: list[int] = []
    with torch.no_grad():
        step = torch.tensor([list(ids)], device=model.device)
        cache = None
        while len(found) < NUM_GREEDY_TOKENS:
            out = model(input_ids=step, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            token = int(out.logits[0, -1].argmax())
            if token in eog_ids:
                break
            found.append(token)
            step = torch.tensor([[token]], device=model.device)
    return found
