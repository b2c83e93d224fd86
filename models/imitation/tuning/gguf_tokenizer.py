"""A checkpoint's tokenizer as a GGUF describes it: byte-level BPE, or SentencePiece's BPE."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from models.imitation.errors import CheckpointUnsupported
from models.imitation.tuning.vocabulary import SPACE, serving_form

CONVERTER = "llama.cpp's convert_hf_to_gguf.py"
# `tokenizer.ggml.pre` and the regular expressions it stands for in llama.cpp (llama-vocab.cpp), as
# tokenizer.json writes them. "digits" and "gpt2" are the library's own Digits and ByteLevel.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PRE_TOKENIZERS: Mapping[tuple[str, ...], str] = {
    ("gpt2",): "gpt-2",
    ("digits", "gpt2"): "smollm",
    (_LLAMA3,): "llama-bpe",
    (_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"),): "qwen2",
    (_TEKKEN,): "tekken",
}
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE_TYPE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """What the `tokenizer.ggml.*` keys say. Lists have one entry for each row of the embedding."""

    model: Literal["gpt2", "llama"]
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    scores: list[float]
    unknown_id: int | None
    has_space_prefix: bool

    def write(self, writer: Any) -> None:
        """Add the keys to a `gguf.GGUFWriter`."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.model == "gpt2":
            writer.add_token_merges(self.merges)
            return
        writer.add_token_scores(self.scores)
        writer.add_add_space_prefix(self.has_space_prefix)
        if self.unknown_id is not None:
            writer.add_unk_token_id(self.unknown_id)


def read_tokenizer(tokenizer_json: str, num_rows: int, folder: Path) -> GgufTokenizer:
    """Return the GGUF form of a `tokenizers` file for `num_rows` rows of the embedding.

    Raises `CheckpointUnsupported` for another kind of tokenizer or pre-tokenizer.
    """
    data: dict[str, Any] = json.loads(serving_form(tokenizer_json))
    model = data["model"]
    if model.get("type") != "BPE" or not model.get("merges"):
        raise _unsupported(folder, f"a tokenizer of kind {model.get('type')}")
    merges = [m.split(" ") if isinstance(m, str) else list(m) for m in model["merges"]]
    added = {int(entry["id"]): entry for entry in data.get("added_tokens") or ()}
    names = {int(token): name for name, token in model["vocab"].items()}
    names |= {token: str(entry["content"]) for token, entry in added.items()}
    normalizers = _steps(data.get("normalizer"), "normalizers")
    is_spm = data.get("pre_tokenizer") is None and any(
        step.get("type") == "Replace" and step.get("content") == SPACE for step in normalizers
    )
    if not is_spm and normalizers:
        kinds = ", ".join(str(step.get("type")) for step in normalizers)
        raise _unsupported(folder, f"a normalizer ({kinds})")
    pre = "default" if is_spm else _pre_name(data, folder)
    unknown = model.get("unk_token") if is_spm else None
    tokens, types = [], []
    for token in range(num_rows):
        name = names.get(token)
        kind = _type_of(name, added.get(token), unknown, is_spm=is_spm)
        if name is None:
            name = f"[PAD{token}]"
        elif kind == _USER_DEFINED and is_spm:
            name = name.replace(SPACE, " ")
        tokens.append(name)
        types.append(kind)
    return GgufTokenizer(
        model="llama" if is_spm else "gpt2",
        pre=pre,
        tokens=tokens,
        types=types,
        merges=[" ".join(pair) for pair in merges],
        scores=_scores(tokens, merges),
        unknown_id=model["vocab"].get(unknown) if unknown else None,
        has_space_prefix=any(step.get("type") == "Prepend" for step in normalizers),
    )


def _type_of(
    name: str | None, added: Mapping[str, Any] | None, unknown: str | None, *, is_spm: bool
) -> int:
    if name is None:
        return _UNUSED
    if name == unknown:
        return _UNKNOWN
    if added is not None:
        return _CONTROL if added.get("special") else _USER_DEFINED
    return _BYTE_TYPE if is_spm and _BYTE.fullmatch(name) else _NORMAL


def _scores(tokens: Sequence[str], merges: Sequence[Sequence[str]]) -> list[float]:
    """SentencePiece merges the pair whose piece scores best: the earlier a merge, the better."""
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault("".join(pair), rank)
    order = {rank: -float(i) for i, rank in enumerate(sorted(ranks.values()))}
    # What no merge makes is a single character; its score is never asked for.
    return [order[ranks[token]] if token in ranks else 0.0 for token in tokens]


def _pre_name(data: Mapping[str, Any], folder: Path) -> str:
    """llama.cpp's name for a byte-level pre-tokenizer."""
    parts: list[str] = []
    for step in _steps(data.get("pre_tokenizer"), "pretokenizers"):
        kind = step.get("type")
        if kind == "Digits" and step.get("individual_digits"):
            parts.append("digits")
        elif kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
            parts.append(str(step["pattern"].get("Regex")))
        elif kind == "ByteLevel" and not step.get("add_prefix_space"):
            parts += ["gpt2"] if step.get("use_regex", True) else []
        else:
            raise _unsupported(folder, f"a pre-tokenizer of kind {kind}")
    found = _PRE_TOKENIZERS.get(tuple(parts))
    if found is None:
        raise _unsupported(folder, f"the pre-tokenizer {' + '.join(parts)[:120] or 'none'}")
    return found


def _steps(part: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
    if not part:
        return []
    return list(part[key]) if part.get("type") == "Sequence" else [part]


def _unsupported(folder: Path, what: str) -> CheckpointUnsupported:
    return CheckpointUnsupported(
        f"{folder} has {what}, which cannot be written as GGUF here; try {CONVERTER} on this"
        " folder.",
        param="base",
    )
