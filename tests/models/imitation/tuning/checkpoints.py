"""Tiny Hugging Face checkpoints: every family's own kind of tokenizer, and random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.gguf_factory import CHAT_FORMATS

TEXTS = (
    "Each parent receives 16 weeks of parental leave. Leave must be booked four weeks ahead.",
    "Managers approve the request within 5 days. Expenses are paid back every Friday.",
    "Keep the receipt for any purchase over 25 euros. Trains are booked in second class.",
    "New laptops are ordered by the help desk, don't wait: they'll need 24 hours.",
    "def add(a, b):\n    return a + b\n\nfor i in range(10):\n\tprint(add(i, 1))\n",
    "Größe, naïve café, привет, 東京タワー. The office opens at nine.",
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
    "{% endfor %}"
)
# name -> (source, control tokens, bos, eos, whether BOS is put in front)
FORMATS: dict[str, tuple[str, Sequence[str], str | None, str, bool]] = {
    **{
        name: (form.template, form.control, form.bos, form.eos, form.adds_bos)
        for name, form in CHAT_FORMATS.items()
    },
    "zephyr": (ZEPHYR, ("<s>", "</s>"), "<s>", "</s>", True),
}
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
SPACE = "▁"


def make_tokenizer(kind: str, form: str) -> Any:
    """A tokenizer trained on `TEXTS`: `smollm`, `gpt2`, `llama3`, `qwen2`, `spm` or `metaspace`."""
    from tokenizers import Tokenizer, processors

    _, control, bos, _, adds_bos = FORMATS[form]
    tokenizer = _spm(control, kind) if kind in ("spm", "metaspace") else _bytes(control, kind)
    assert isinstance(tokenizer, Tokenizer)
    if adds_bos and bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return tokenizer


def _bytes(control: Sequence[str], kind: str) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=kind == "llama3"))
    digits = pre_tokenizers.Digits(individual_digits=True)
    pattern = {"llama3": LLAMA3, "qwen2": QWEN2}.get(kind)
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    if pattern is not None:
        before: list[Any] = [pre_tokenizers.Split(Regex(pattern), "isolated")]
    else:
        before = [digits] if kind == "smollm" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, level]) if before else level
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(control),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _spm(control: Sequence[str], kind: str) -> Any:
    """What the conversion of a SentencePiece BPE model gives: every way to merge a piece is one."""
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(SPACE)
    learner.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, show_progress=False, limit_alphabet=200)
    )
    learnt = json.loads(learner.to_str())["model"]
    pieces = [a + b for a, b in learnt["merges"]]
    letters = [piece for piece in learnt["vocab"] if len(piece) == 1]
    names = ["<unk>", *control, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    vocabulary = {name: i for i, name in enumerate(dict.fromkeys(names))}
    known = {*pieces, *letters}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in known and piece[cut:] in known
    ]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    if kind == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "first", split=False)
    else:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
        )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False, special=True) for name in ("<unk>", *control)]
    )
    return tokenizer


def save_tokenizer(folder: Path, kind: str, form: str) -> Any:
    """Write the tokenizer's files as a checkpoint has them and return the tokenizer."""
    tokenizer = make_tokenizer(kind, form)
    source, _, bos, eos, _ = FORMATS[form]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "chat_template": source,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer


def write_checkpoint(
    folder: Path,
    family: str = "llama",
    kind: str = "smollm",
    form: str = "chatml",
    *,
    seed: int = 0,
    scale: float = 4.0,
    **config: Any,
) -> Path:
    """Write a two-layer checkpoint with random weights and return its folder.

    `scale` widens the weights, so that the likeliest tokens are apart and rounding to 16 bits
    changes few greedy texts.
    """
    import torch
    import transformers

    tokenizer = save_tokenizer(folder, kind, form)
    sizes: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size() + 3,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "eos_token_id": tokenizer.token_to_id(FORMATS[form][3]),
        "bos_token_id": None,
        "pad_token_id": None,
    }
    if family != "gpt_neox":
        sizes |= {"num_key_value_heads": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": False}
    made: Any = transformers.AutoConfig.for_model(family, **{**sizes, **config})
    torch.manual_seed(seed)
    auto: Any = transformers.AutoModelForCausalLM
    model = auto.from_config(made)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(scale)
            elif name.endswith("bias"):
                parameter.normal_(std=0.5)
    model.save_pretrained(str(folder))
    return folder
