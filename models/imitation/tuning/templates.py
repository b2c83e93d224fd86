"""Which chat template a checkpoint is trained with, and how the template ends a turn."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from models.errors import ModelFileInvalid, PromptInvalid
from models.imitation.errors import CheckpointUnsupported
from models.imitation.tuning.checkpoint import Checkpoint
from models.imitation.tuning.vocabulary import CheckpointVocabulary
from models.protocols import Message
from models.template import ChatTemplate
from models.tokens import PromptTokenizer

# The conversation format of Vicuna v1.1 (lm-sys/FastChat): plain text around the turns, which
# needs no control token but the end of the sequence, so that it suits every base model.
VICUNA = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{- 'A chat between a curious user and an artificial intelligence assistant. The assistant"
    " gives helpful, detailed, and polite answers to the user\\'s questions.' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{- ' USER: ' + message['content'] -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- ' ASSISTANT: ' + message['content'] + eos_token -}}"
    "{%- else -%}{{- message['content'] -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- ' ASSISTANT:' -}}{%- endif -%}"
)
NAMED = {"vicuna": VICUNA}


class TurnEnd(NamedTuple):
    """Ids that stand behind an assistant's turn.

    `is_written`: by the template itself. Otherwise they are the end of the sequence alone, which
    training puts behind the last turn.
    """

    ids: tuple[int, ...]
    is_written: bool


def choose_template(checkpoint: Checkpoint, choice: str | None) -> str:
    """Return a template's source: of a name, of a file, or by default the checkpoint's own.

    Raises `CheckpointUnsupported` where there is none.
    """
    if choice is None:
        if checkpoint.template is None:
            raise CheckpointUnsupported(
                f"{checkpoint.folder} has no chat template; choose one with --template: a jinja"
                f" file, or {', '.join(NAMED)}.",
                param="template",
            )
        return checkpoint.template
    if choice in NAMED:
        return NAMED[choice]
    try:
        return Path(choice).read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise CheckpointUnsupported(
            f"there is no template {choice!r}: give a jinja file, or {', '.join(NAMED)}.",
            param="template",
        ) from None


def make_tokenizer(checkpoint: Checkpoint, source: str) -> PromptTokenizer:
    """Return what turns conversations into ids. Raises `CheckpointUnsupported`."""
    try:
        template = ChatTemplate(source, bos=checkpoint.bos or "", eos=checkpoint.eos)
    except ModelFileInvalid as error:
        raise CheckpointUnsupported(error.message, param="template") from None
    return PromptTokenizer(CheckpointVocabulary(checkpoint), template)


def find_turn_end(tokenizer: PromptTokenizer) -> TurnEnd:
    """Return what the template writes behind an answer, up to its first control token.

    Raises `CheckpointUnsupported` where it refuses a question with its answer.
    """
    vocabulary, probe = tokenizer.vocabulary, "text"
    try:
        segments = tokenizer.template.render(
            [Message("user", probe), Message("assistant", probe)], add_generation_prompt=False
        )
    except PromptInvalid as error:
        raise CheckpointUnsupported(error.message, param="template") from None
    runs = tokenizer.encode_runs(segments)
    last = max((i for i, (run, _) in enumerate(runs) if run.source == 1), default=None)
    if last is None:
        raise CheckpointUnsupported(
            "the chat template leaves the assistant's words out.", param="template"
        )
    after = [token for _, ids in runs[last + 1 :] for token in ids]
    for index, token in enumerate(after):
        if vocabulary.is_special(token):
            return TurnEnd(tuple(after[: index + 1]), is_written=True)
        if vocabulary.text(token).strip("▁ \n\tĠĊ"):
            break
    return TurnEnd((vocabulary.eos_id,), is_written=False)
