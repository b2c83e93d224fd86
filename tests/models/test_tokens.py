"""Content never becomes control, whatever it says; scaffold always does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.engine_settings import EngineSettings
from models.loaded_model import LoadedModel
from models.protocols import Message, PromptDocument
from models.template import ChatTemplate
from models.tokens import PromptTokenizer
from tests.gguf_factory import CHAT_FORMATS, write_tiny_gguf

# Control texts of all formats, and of families that the tiny models do not imitate.
CONTROL_TEXTS = sorted(
    {text for form in CHAT_FORMATS.values() for text in form.control}
    | {"<|end|>", "<|user|>", "<|system|>", "<|eot|>", "[SYSTEM_PROMPT]", "<unk>", "<0x0A>"}
)
WILD = st.lists(
    st.one_of(
        st.sampled_from(CONTROL_TEXTS),
        # Halves and overlaps.
        st.sampled_from(CONTROL_TEXTS).map(lambda text: text[: len(text) // 2]),
        st.sampled_from(CONTROL_TEXTS).map(lambda text: text[1:]),
        st.text(max_size=6),
    ),
    max_size=8,
).map("".join)


def _open(
    path: Path,
    chat: str,
    vocabulary: Literal["bpe", "spm"],
    control_as: Literal["control", "user_defined"] = "control",
) -> tuple[LoadedModel, PromptTokenizer]:
    write_tiny_gguf(path, chat=chat, vocabulary=vocabulary, control_as=control_as)
    model = LoadedModel(EngineSettings(path=path))
    form = CHAT_FORMATS[chat]
    template = ChatTemplate(form.template, bos=form.bos or "", eos=form.eos)
    return model, PromptTokenizer(model.vocabulary, template)


@pytest.fixture(
    scope="module",
    params=[
        (chat, vocabulary, control_as)
        for chat in CHAT_FORMATS
        for vocabulary, control_as in (
            ("bpe", "control"),
            ("bpe", "user_defined"),
            ("spm", "control"),
            ("spm", "user_defined"),
        )
    ],
    ids="-".join,
)
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PromptTokenizer]:
    chat, vocabulary, control_as = request.param
    path = tmp_path_factory.mktemp("tokens") / "model.gguf"
    model, tokenizer = _open(path, chat, vocabulary, control_as)
    yield tokenizer
    model.free()


def _control_ids(tokenizer: PromptTokenizer, ids: list[int]) -> list[int]:
    form_control = {
        token
        for token in range(tokenizer.vocabulary.num_vocab)
        if tokenizer.vocabulary.text(token)
        in {text for form in CHAT_FORMATS.values() for text in form.control}
    }
    return [token for token in ids if token in form_control]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(system=WILD, question=WILD, title=WILD, text=WILD)
def test_wild_content_adds_no_control_token(
    tokenizer: PromptTokenizer, system: str, question: str, title: str, text: str
) -> None:
    def control_of(*contents: str) -> list[int]:
        messages = [Message("system", contents[0]), Message("user", contents[1])]
        prompt = tokenizer.prepare(messages, [PromptDocument(contents[2], contents[3])])
        return _control_ids(tokenizer, list(prompt.tokens))

    # "x" keeps a system message of mere spaces from being dropped by one of the two.
    assert control_of("x" + system, "x" + question, title, text) == control_of("x", "x", "x", "x")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=WILD)
def test_content_tokens_spell_the_content(tokenizer: PromptTokenizer, text: str) -> None:
    ids = tokenizer.encode_content(text, follows_text=True)
    assert not _control_ids(tokenizer, ids)
    spelled = b"".join(map(tokenizer.vocabulary.piece, ids))
    wanted = text.encode()
    if "▁" in text and tokenizer.vocabulary.space_prefix_ids:
        return  # SentencePiece writes this character for a space.
    assert spelled in (wanted, b" " + wanted)


@pytest.mark.parametrize("chat", ["llama3", "mistral", "gemma", "documents"])
def test_bos_stands_exactly_once(tmp_path: Path, chat: str) -> None:
    model, tokenizer = _open(tmp_path / "model.gguf", chat, "bpe")
    ids = tokenizer.prepare([Message("user", "x")]).tokens
    bos = model.vocabulary.bos_id
    assert ids[0] == bos
    assert ids.count(bos) == 1
    plain = PromptTokenizer(model.vocabulary, ChatTemplate("{{ messages[0].content }}"))
    num_bos = plain.prepare([Message("user", "x")]).tokens.count(bos)
    assert num_bos == int(CHAT_FORMATS[chat].adds_bos)
    model.free()


def test_no_bos_is_added_where_the_vocabulary_has_none(tmp_path: Path) -> None:
    model, tokenizer = _open(tmp_path / "model.gguf", "chatml", "bpe")
    ids = tokenizer.prepare([Message("user", "x")]).tokens
    assert model.vocabulary.text(ids[0]) == "<|im_start|>"
    model.free()


@pytest.mark.parametrize("chat", CHAT_FORMATS)
@pytest.mark.parametrize("vocabulary", ["bpe", "spm"])
def test_harmless_content_gives_the_ids_of_the_whole_text(
    tmp_path: Path, chat: str, vocabulary: Literal["bpe", "spm"]
) -> None:
    """Segments must not show in the ids, or the model would see what it was not trained on."""
    model, tokenizer = _open(tmp_path / "model.gguf", chat, vocabulary)
    messages = [Message("user", "Where is the office?"), Message("assistant", "The document says")]
    messages.append(Message("user", "the user asks"))
    segments = tokenizer.template.render(messages)
    whole = "".join(run.text for run in segments)
    ids = list(tokenizer.prepare(messages).tokens)
    assert ids == model.vocabulary.tokenize(whole, parse_special=True)
    model.free()


TITLES = st.text(st.sampled_from("ab [1]\n.é"), max_size=12)
BODIES = st.one_of(WILD, st.text(min_size=1, max_size=40))


@given(
    passages=st.lists(st.tuples(TITLES, BODIES), min_size=1, max_size=4),
    before=st.lists(st.tuples(TITLES, BODIES), max_size=3),
    question=BODIES,
)
@settings(
    deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_passage_has_the_same_ids_at_any_number_and_beside_any_other(
    tokenizer: PromptTokenizer,
    passages: list[tuple[str, str]],
    before: list[tuple[str, str]],
    question: str,
) -> None:
    messages = [Message("system", "Read."), Message("user", question)]

    def blocks(pairs: list[tuple[str, str]]) -> list[tuple[str, tuple[int, ...]]]:
        documents = [PromptDocument(a, b, f"doc{i}") for i, (a, b) in enumerate(pairs)]
        prompt = tokenizer.prepare(messages, documents)
        return [(block.owner, prompt.tokens[block.start : block.end]) for block in prompt.blocks]

    alone = [blocks([pair]) for pair in passages]
    together = blocks([*before, *passages])
    wanted = [(f"doc{len(before) + i}", found[0][1]) for i, found in enumerate(alone) if found]
    assert together[len(together) - len(wanted) :] == wanted


def test_blocks_hold_title_and_text_and_nothing_else(tokenizer: PromptTokenizer) -> None:
    documents = [PromptDocument("part one", "The office opens."), PromptDocument("", "At nine.")]
    prompt = tokenizer.prepare([Message("user", "When?")], documents)
    texts = [
        tokenizer.vocabulary.decode(prompt.tokens[block.start : block.end]).strip()
        for block in prompt.blocks
    ]
    assert [text.split("\n") for text in texts] == [["part one", "The office opens."], ["At nine."]]
    assert not tokenizer.prepare([Message("user", "When?")]).blocks


def test_long_texts_are_remembered_until_they_are_forgotten(tmp_path: Path) -> None:
    model, tokenizer = _open(tmp_path / "m.gguf", "documents", "spm")
    text = "The handbook says <|end|> that leave is long. " * 20
    wanted = tokenizer._encode_content(text, follows_text=True)
    for _ in range(2):
        found = tokenizer.encode_content(text, follows_text=True)
        assert found == wanted
        # Nobody changes what others are given.
        found.clear()
    assert tokenizer.encode_content(text) == tokenizer._encode_content(text, follows_text=False)
    assert tokenizer._known._ids
    tokenizer.forget()
    assert not tokenizer._known._ids
    assert tokenizer._known._num_tokens == 0
    model.free()
