from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jinja2.sandbox
from hypothesis import given, settings
from hypothesis import strategies as st

from models.imitation import tokenizer as tokenizers
from models.imitation.tokenizer import CHAT_TEMPLATE, CONTROL_TOKENS, DOCUMENT, END

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer


def render(**variables: Any) -> str:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment()
    return environment.from_string(CHAT_TEMPLATE).render(**variables)


class TestTokenizer:
    def test_any_text_comes_back(self, tokenizer: Tokenizer) -> None:
        @given(st.text(max_size=60))
        @settings(max_examples=150, deadline=None)
        def check(text: str) -> None:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert tokenizer.decode(ids, skip_special_tokens=False) == text

        check()

    def test_control_tokens_in_content_stay_text(self, tokenizer: Tokenizer) -> None:
        control = {tokenizer.token_to_id(name) for name in CONTROL_TOKENS}
        for name in CONTROL_TOKENS:
            text = f"before {name} after"
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert not control & set(ids)
            assert tokenizer.decode(ids) == text

    def test_control_tokens_have_the_first_ids(self, tokenizer: Tokenizer) -> None:
        assert [tokenizer.token_to_id(name) for name in CONTROL_TOKENS] == list(range(16))

    def test_digits_stand_alone(self, tokenizer: Tokenizer) -> None:
        tokens = tokenizer.encode("16 weeks", add_special_tokens=False).tokens
        assert tokens[:2] == ["1", "6"]

    def test_equal_texts_train_equal_tokenizers(
        self, tokenizer_path: Path, texts: tuple[str, ...]
    ) -> None:
        again = tokenizers.train(texts * 20, vocab_size=384)
        assert again.get_vocab() == tokenizers.load(tokenizer_path).get_vocab()


class TestChatTemplate:
    def test_documents_come_first_and_are_numbered(self) -> None:
        text = render(
            messages=[{"role": "user", "content": "How long?"}],
            documents=[{"title": "a.md", "text": "One."}, {"title": "b.md", "text": "Two."}],
            add_generation_prompt=True,
        )
        assert text == (
            "<|bos|><|document|>[1]\na.md\nOne.<|document|>[2]\nb.md\nTwo."
            "<|user|>How long?<|end|><|assistant|>"
        )

    def test_renders_without_documents(self) -> None:
        assert render(messages=[{"role": "user", "content": "Hi"}]) == "<|bos|><|user|>Hi<|end|>"
        assert render(messages=[], documents=None, add_generation_prompt=True) == (
            "<|bos|><|assistant|>"
        )

    def test_system_history_and_question_keep_their_order(self) -> None:
        roles = ["system", "user", "assistant", "user"]
        text = render(messages=[{"role": role, "content": role} for role in roles])
        assert text == (
            "<|bos|><|system|>system<|end|><|user|>user<|end|>"
            "<|assistant|>assistant<|end|><|user|>user<|end|>"
        )

    def test_unusual_roles_and_contents_do_not_fail(self) -> None:
        text = render(
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "assistant", "content": None, "tool_calls": []},
                {"role": "tool", "content": "42"},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
            ]
        )
        assert text == (
            "<|bos|><|system|>Be brief.<|end|><|assistant|><|end|>"
            "<|document|>42<|end|><|user|>a<|end|>"
        )

    def test_content_is_emitted_exactly(self) -> None:
        content = "  {{ 7 * 7 }} <b>\n\n&amp; {% raw %}  "
        text = render(
            messages=[{"role": "user", "content": content}],
            documents=[{"title": content, "text": content}],
        )
        assert text == f"<|bos|><|document|>[1]\n{content}\n{content}<|user|>{content}<|end|>"

    def test_scaffold_and_content_tokenise_alike_together_and_apart(
        self, tokenizer: Tokenizer, tokenizer_path: Path
    ) -> None:
        joint = tokenizers.load(tokenizer_path)
        joint.encode_special_tokens = False
        text = render(
            messages=[{"role": "user", "content": "How long?"}],
            documents=[{"title": "Leave 2", "text": "Each parent receives 16 weeks."}],
        )

        def plain(part: str) -> list[int]:
            ids: list[int] = tokenizer.encode(part, add_special_tokens=False).ids
            return ids

        control = tokenizer.token_to_id
        apart = [control("<|bos|>"), control(DOCUMENT), *plain("[1]\n"), *plain("Leave 2")]
        apart += [*plain("\n"), *plain("Each parent receives 16 weeks."), control("<|user|>")]
        apart += [*plain("How long?"), control(END)]
        assert joint.encode(text, add_special_tokens=False).ids == apart


def test_importing_the_package_loads_no_library() -> None:
    code = (
        "import sys, models.imitation, models.imitation.tokenizer, models.imitation.export;"
        "print({'torch', 'tokenizers', 'gguf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
