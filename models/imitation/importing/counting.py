"""How many tokens a text has: by a model's own tokenizer, or estimated from its words."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import ModelFileInvalid
from models.imitation.errors import TrainingDataInvalid

CountTokens = Callable[[str], int]

_PIECE = re.compile(r"\w+|[^\w\s]")
# Bytes that a token of a usual vocabulary spans inside one word: English, and other scripts.
_BYTES_PER_TOKEN_ASCII = 4
_BYTES_PER_TOKEN = 3


def estimate_tokens(text: str) -> int:
    """Return a count that is a little too high for English text and common vocabularies."""
    num_tokens = 0
    for piece in _PIECE.findall(text):
        size = _BYTES_PER_TOKEN_ASCII if piece.isascii() else _BYTES_PER_TOKEN
        num_tokens += -(-len(piece.encode("utf-8", "replace")) // size)
    return num_tokens


@contextmanager
def open_counter(path: Path | None) -> Iterator[CountTokens]:
    """Gives the count by the tokenizer of a GGUF, a `tokenizer.json` or a checkpoint's folder.

    None: the estimate. Raises `TrainingDataInvalid` or `ModelFileInvalid` for any other file.
    """
    if path is None:
        yield estimate_tokens
    elif path.suffix == ".gguf":
        with _open_gguf(path) as count:
            yield count
    else:
        yield _open_tokenizer(path / "tokenizer.json" if path.is_dir() else path)


def _open_tokenizer(path: Path) -> CountTokens:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    # The library has no exception class of its own.
    except Exception as error:
        raise TrainingDataInvalid(
            f"{path} is no tokenizer ({error}); give a GGUF, a tokenizer.json or its folder."
        ) from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


@contextmanager
def _open_gguf(path: Path) -> Iterator[CountTokens]:
    from models.llama import keep_errors, library
    from models.vocabulary import Vocabulary

    lib = library()
    params = lib.llama_model_default_params()
    params.vocab_only = True
    with keep_errors() as errors:
        model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        reason = " ".join((errors[0] if errors else "no reason given").split())[:200]
        raise ModelFileInvalid(f"{path} cannot be loaded: {reason}.", param="tokenizer")
    try:
        vocabulary = Vocabulary(lib.llama_model_get_vocab(model))
        yield lambda text: len(vocabulary.tokenize(text, parse_special=False))
    finally:
        lib.llama_model_free(model)
