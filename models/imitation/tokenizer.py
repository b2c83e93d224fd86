"""Byte-level BPE of the bundled model, and the scaffold that its chat template writes.

`python -m models.imitation.tokenizer --corpus a.jsonl.xz --qa b.jsonl.xz --out tokenizer.json`
"""

# ruff: noqa: T201 - a command line program prints.

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCAB_SIZE = 8192

BOS = "<|bos|>"
DOCUMENT = "<|document|>"
SYSTEM = "<|system|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
END = "<|end|>"
# Stands after a quoted sentence that does not answer, where a citation mark would stand otherwise.
NO = "<|no|>"
PAD = "<|pad|>"
# Spare ids let a later run add a role without changing the shape of the embedding.
CONTROL_TOKENS = (
    *(BOS, DOCUMENT, SYSTEM, USER, ASSISTANT, END, NO, PAD),
    *(f"<|spare_{i}|>" for i in range(8)),
)

REFUSAL = "I could not find this in the documents."

# Every piece of scaffold begins or ends at a control token or a newline, where no BPE merge
# crosses: tokenising the rendered string at once or scaffold and content apart gives equal ids.
CHAT_TEMPLATE = (
    "<|bos|>"
    "{%- for document in (documents or []) -%}"
    "{{- '<|document|>[' ~ loop.index ~ ']\\n' -}}"
    "{{- document['title'] or '' -}}{{- '\\n' -}}{{- document['text'] or '' -}}"
    "{%- endfor -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}{{- '<|assistant|>' -}}"
    "{%- elif message['role'] == 'user' -%}{{- '<|user|>' -}}"
    "{%- elif message['role'] == 'tool' -%}{{- '<|document|>' -}}"
    "{%- else -%}{{- '<|system|>' -}}"
    "{%- endif -%}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}"
    "{%- for part in (message['content'] or []) -%}{{- part['text'] or '' -}}{%- endfor -%}"
    "{%- endif -%}"
    "{{- '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def train(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """Return a tokenizer of `vocab_size` entries whose first 16 ids are the control tokens.

    Single digits and the GPT-2 pattern: what llama.cpp calls the pre-tokenizer `smollm`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load(path: Path) -> Tokenizer:
    """Return the tokenizer saved at `path`, with control tokens in content read as plain text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    # Document text is data: `<|end|>` inside it must not become the control token.
    tokenizer.encode_special_tokens = True
    return tokenizer


def control_id(tokenizer: Tokenizer, name: str) -> int:
    """Return the id of a control token; raises ValueError where the tokenizer lacks it."""
    found = tokenizer.token_to_id(name)
    if found is None:
        raise ValueError(f"the tokenizer has no {name}")
    return int(found)


def texts_of(corpus: Path, qa: Path, max_chars: int) -> Iterator[str]:
    """Yield up to `max_chars` characters of each of the two files, for `train`."""
    from models.imitation.sources import read_jsonl

    for path, fields in ((corpus, ("text",)), (qa, ("question", "answer"))):
        num_chars = 0
        for row in read_jsonl(path):
            text = "\n".join(str(row[field]) for field in fields if row.get(field))
            if "passages" in row:
                text += "\n" + "\n".join(passage["text"] for passage in row["passages"])
            yield text
            num_chars += len(text)
            if num_chars >= max_chars:
                break


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train the tokenizer of the bundled model.")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--qa", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--max-chars", type=int, default=20_000_000)
    options = parser.parse_args()
    tokenizer = train(texts_of(options.corpus, options.qa, options.max_chars))
    tokenizer.save(str(options.out))
    print(f"{tokenizer.get_vocab_size()} tokens -> {options.out}")


if __name__ == "__main__":
    main()
