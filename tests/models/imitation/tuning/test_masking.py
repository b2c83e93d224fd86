from __future__ import annotations

from pathlib import Path

import pytest

from models.imitation.conversations import Conversation, SourcePassage, Turn
from models.imitation.errors import CheckpointUnsupported
from models.imitation.tuning.checkpoint import Checkpoint, read_checkpoint
from models.imitation.tuning.masking import IGNORED, Encoder, Example
from models.imitation.tuning.templates import VICUNA, choose_template, make_tokenizer
from models.imitation.tuning.vocabulary import CheckpointVocabulary
from models.protocols import Message
from tests.models.imitation.tuning.checkpoints import save_tokenizer

# format of the chat, its tokenizer, what ends an answer
CHATS = (
    ("chatml", "qwen2", "<|im_end|>"),
    ("llama3", "llama3", "<|eot_id|>"),
    ("zephyr", "spm", "</s>"),
    ("mistral", "spm", "</s>"),
    ("documents", "smollm", "<|end|>"),
)
# Writes the system message into the last question, as Mistral's later templates do.
MOVING = (
    "{%- for m in messages -%}{%- if m['role'] == 'user' -%}"
    "{{- '<|im_start|>' -}}{%- if loop.index0 >= messages | length - 2 -%}{{- 'Be brief. ' -}}"
    "{%- endif -%}{{- m['content'] ~ '\n' -}}"
    "{%- else -%}{{- m['content'] ~ '<|im_end|>' -}}{%- endif -%}{%- endfor -%}"
)


def load(folder: Path, form: str, kind: str) -> Checkpoint:
    save_tokenizer(folder, kind, form)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return read_checkpoint(folder)


def make_encoder(
    checkpoint: Checkpoint, template: str | None = None, max_length: int = 1000
) -> Encoder:
    source = template or choose_template(checkpoint, None)
    return Encoder(make_tokenizer(checkpoint, source), max_length)


def talk(num_turns: int, *, with_passages: bool = False) -> Conversation:
    turns: list[Turn] = []
    for number in range(num_turns):
        turns += [
            Turn("user", f"Question {number}? Ignore </s> and <|im_end|>."),
            Turn("assistant", f"Answer {number}: naïve 東京 <|eot_id|>,\n\n  {number}00 weeks."),
        ]
    passages = (SourcePassage("1", "Leave", "16 weeks."), SourcePassage("2", "", "Nine."))
    return Conversation("talk", tuple(turns), {}, passages if with_passages else ())


def decode(encoder: Encoder, ids: list[int]) -> str:
    vocabulary = encoder.tokenizer.vocabulary
    assert isinstance(vocabulary, CheckpointVocabulary)
    return vocabulary.decode(ids, skip_control=False)


def labelled(encoder: Encoder, example: Example) -> str:
    """The unmasked labels as text, each answer decoded by itself as a model would write it."""
    parts: list[list[int]] = []
    is_open = False
    for label in example.labels.tolist():
        if label == IGNORED:
            is_open = False
            continue
        if not is_open:
            parts.append([])
            is_open = True
        parts[-1].append(label)
    return "".join(decode(encoder, part).removeprefix(" ") for part in parts)


@pytest.mark.parametrize(("form", "kind", "end"), CHATS, ids=[chat[0] for chat in CHATS])
@pytest.mark.parametrize("num_turns", [1, 5])
@pytest.mark.parametrize("with_passages", [False, True])
def test_labels_are_the_answers_and_their_ends_and_nothing_else(
    tmp_path: Path, form: str, kind: str, end: str, num_turns: int, with_passages: bool
) -> None:
    encoder = make_encoder(load(tmp_path, form, kind))
    conversation = talk(num_turns, with_passages=with_passages)
    (example,) = encoder.encode(conversation)
    answers = [turn.content for turn in conversation.turns if turn.role == "assistant"]
    assert labelled(encoder, example) == "".join(answer + end for answer in answers)
    is_label = example.labels != IGNORED
    assert (example.labels[is_label] == example.ids[is_label]).all()
    assert encoder.counts["turns"] == num_turns


@pytest.mark.parametrize(("form", "kind", "end"), CHATS, ids=[chat[0] for chat in CHATS])
def test_what_stands_before_an_answer_is_what_the_engine_would_prefill(
    tmp_path: Path, form: str, kind: str, end: str
) -> None:
    encoder = make_encoder(load(tmp_path, form, kind))
    conversation = talk(3)
    (example,) = encoder.encode(conversation)
    messages = [Message(turn.role, turn.content) for turn in conversation.turns]
    for index in (1, 3, 5):
        prompt = encoder.tokenizer.prepare(messages[:index]).tokens
        assert tuple(example.ids[: len(prompt)].tolist()) == prompt
        assert example.labels[len(prompt)] != IGNORED
        assert example.labels[len(prompt) - 1] == IGNORED
    assert end in decode(encoder, example.ids.tolist())


def test_content_yields_no_control_token(tmp_path: Path) -> None:
    encoder = make_encoder(load(tmp_path, "chatml", "smollm"))
    (example,) = encoder.encode(talk(1))
    end = encoder.turn_end.ids[-1]
    # Question, answer: the marks in their text are text.
    assert example.ids.tolist().count(end) == 2


def test_a_template_that_rewrites_the_past_gives_an_example_for_each_answer(tmp_path: Path) -> None:
    encoder = make_encoder(load(tmp_path, "chatml", "smollm"), MOVING)
    conversation = talk(3)
    examples = encoder.encode(conversation)
    assert len(examples) == 3
    messages = [Message(turn.role, turn.content) for turn in conversation.turns]
    for number, example in enumerate(examples):
        prompt = encoder.tokenizer.prepare(messages[: 2 * number + 1]).tokens
        assert tuple(example.ids[: len(prompt)].tolist()) == prompt
        assert labelled(encoder, example) == messages[2 * number + 1].content + "<|im_end|>"


def test_the_plain_template_ends_every_answer_with_the_end_of_sequence(tmp_path: Path) -> None:
    checkpoint = load(tmp_path, "mistral", "metaspace")
    encoder = make_encoder(checkpoint, VICUNA)
    (example,) = encoder.encode(talk(2))
    answers = [turn.content for turn in talk(2).turns if turn.role == "assistant"]
    assert labelled(encoder, example) == "".join(answer + "</s>" for answer in answers)


def test_a_template_without_an_end_gets_one_behind_the_last_answer(tmp_path: Path) -> None:
    source = (
        "{%- for m in messages -%}{{- '### ' ~ m['role'] ~ ':\n' ~ m['content'] ~ '\n' -}}"
        "{%- endfor -%}{%- if add_generation_prompt -%}{{- '### assistant:\n' -}}{%- endif -%}"
    )
    encoder = make_encoder(load(tmp_path, "chatml", "smollm"), source)
    (example,) = encoder.encode(talk(1))
    assert not encoder.turn_end.is_written
    assert example.ids[-1] == example.labels[-1] == encoder.tokenizer.vocabulary.eos_id


def test_long_conversations_are_cut_behind_an_answer_and_counted(tmp_path: Path) -> None:
    checkpoint = load(tmp_path, "chatml", "smollm")
    (whole,) = make_encoder(checkpoint).encode(talk(3))
    encoder = make_encoder(checkpoint, max_length=len(whole.ids) - 30)
    (cut,) = encoder.encode(talk(3))
    assert len(cut.ids) <= encoder.max_length
    assert cut.labels[-1] == encoder.turn_end.ids[-1]
    assert (encoder.counts["turns"], encoder.counts["turns_cut"]) == (2, 1)
    short = make_encoder(checkpoint, max_length=12)
    assert short.encode(talk(1)) == []
    assert short.counts["too_long"] == 1


def test_what_cannot_be_trained_on_is_counted(tmp_path: Path) -> None:
    encoder = make_encoder(load(tmp_path, "chatml", "smollm"))
    assert encoder.encode(Conversation("a", (Turn("user", "Hello?"),), {})) == []
    call = Turn("assistant", "Calling.", {"tool_calls": [{"id": "1"}]})
    assert encoder.encode(Conversation("b", (Turn("user", "Hello?"), call), {})) == []
    assert encoder.counts["no_answer"] == encoder.counts["tool_calls"] == 1
    (example,) = encoder.encode(
        Conversation("c", (*talk(1).turns, Turn("user", "And?"), Turn("assistant", " ")), {})
    )
    assert labelled(encoder, example) == talk(1).turns[1].content + "<|im_end|>"


def test_a_checkpoint_without_a_template_says_how_to_choose_one(tmp_path: Path) -> None:
    load(tmp_path, "chatml", "smollm")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    checkpoint = read_checkpoint(tmp_path)
    with pytest.raises(CheckpointUnsupported, match="--template"):
        choose_template(checkpoint, None)
    assert choose_template(checkpoint, "vicuna") == VICUNA
    with pytest.raises(CheckpointUnsupported, match=r"nothing\.jinja"):
        choose_template(checkpoint, "nothing.jinja")
    with pytest.raises(CheckpointUnsupported, match="does not parse"):
        make_tokenizer(checkpoint, "{% if %}")
