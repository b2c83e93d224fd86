"""A Hugging Face checkpoint on disk: what its files say, without loading its weights."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.imitation.errors import CheckpointUnsupported, TrainingFailed
from models.imitation.tuning.libraries import prepare_libraries

TEMPLATE_FILE = "chat_template.jinja"
# `model_type` of the checkpoints that can be exported, and llama.cpp's architecture for them.
FAMILIES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2"}
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
)
_LICENCE_LINE = re.compile(r"^license:\s*['\"]?([^\s'\"]+)", re.MULTILINE)
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Config, tokenizer and template. `template` is None for a model that was never tuned to chat.

    `tokenizer_json` is the text of a `tokenizers` file; `licence` what the README's head says.
    """

    folder: Path
    config: Mapping[str, Any]
    tokenizer_json: str
    bos: str | None
    eos: str
    template: str | None
    licence: str | None

    @property
    def family(self) -> str:
        """The `model_type` of config.json."""
        return str(self.config.get("model_type", ""))

    @property
    def max_length(self) -> int:
        """Positions the model may attend over, a sliding window counted as its end."""
        window = self.config.get("sliding_window")
        if self.config.get("use_sliding_window") is False:
            window = None
        sizes = [self.config.get("max_position_embeddings"), window]
        return min((int(size) for size in sizes if size), default=2048)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return what is in `folder`. Raises `CheckpointUnsupported` with what is missing."""
    if not (folder / "config.json").is_file():
        raise CheckpointUnsupported(
            f"{folder} is no Hugging Face checkpoint: it has no config.json; give the folder that"
            " holds config.json, tokenizer.json and *.safetensors.",
            param="base",
        )
    config = _read_json(folder / "config.json")
    tokenizer_json = _read_tokenizer(folder)
    settings = {**_read_json(folder / "special_tokens_map.json")}
    settings.update(_read_json(folder / "tokenizer_config.json"))
    bos = _token_name(settings.get("bos_token"))
    eos = _token_name(settings.get("eos_token")) or _name_of_id(config, tokenizer_json)
    if eos is None:
        raise CheckpointUnsupported(
            f"{folder} names no eos_token in tokenizer_config.json; a model must be able to stop.",
            param="base",
        )
    return Checkpoint(
        folder, config, tokenizer_json, bos, eos, _template(folder, settings), _licence(folder)
    )


def load_model(folder: Path, *, dtype: Any, device: str = "cpu") -> Any:
    """Return the checkpoint's causal language model. Raises `CheckpointUnsupported`."""
    prepare_libraries("transformers", "torch")
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, attn_implementation="sdpa", local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CheckpointUnsupported(
            f"{folder} cannot be loaded: {' '.join(str(error).split())[:250]}", param="base"
        ) from error
    return model.to(device)


def choose_device(wanted: str) -> str:
    """`auto`: a GPU where PyTorch finds one, else the CPU."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise TrainingFailed(
            "PyTorch finds no CUDA device here; use --device cpu, or install PyTorch for CUDA.",
            param="device",
        )
    return wanted


def save_tokenizer(checkpoint: Checkpoint, template: str, folder: Path) -> None:
    """Put the checkpoint's tokenizer and `template` into `folder`, as transformers reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER_FILES:
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, folder / name)
    (folder / "tokenizer.json").write_text(checkpoint.tokenizer_json, encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": checkpoint.bos,
        "eos_token": checkpoint.eos,
        **_read_json(folder / "tokenizer_config.json"),
    }
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(settings, ensure_ascii=False, indent=1), encoding="utf-8"
    )
    (folder / TEMPLATE_FILE).write_text(template, encoding="utf-8")


def hash_checkpoint(folder: Path) -> str:
    """SHA-256 over the names and bytes of weights, configuration and tokenizer."""
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix in (".json", ".safetensors", ".bin", ".model", ".jinja")
    )
    return hash_files(paths)


def hash_files(paths: list[Path]) -> str:
    """SHA-256 over the names and bytes of files, in this order."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name}\0{digest}\n".encode())
    return total.hexdigest()


def hash_text(text: str) -> str:
    """SHA-256 of a text's UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointUnsupported(f"{path} is no JSON: {error}.", param="base") from None
    if not isinstance(found, dict):
        raise CheckpointUnsupported(f"{path} holds no JSON object.", param="base")
    return found


def _read_tokenizer(folder: Path) -> str:
    if (folder / "tokenizer.json").is_file():
        return (folder / "tokenizer.json").read_text(encoding="utf-8")
    prepare_libraries("transformers", "tokenizers")
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        return str(tokenizer.backend_tokenizer.to_str())
    # Which of many errors it is depends on the kind of tokenizer and on what is installed.
    except Exception as error:
        raise CheckpointUnsupported(
            f"{folder} has no tokenizer.json, and none can be made of its other files"
            f" ({' '.join(str(error).split())[:150]}); install sentencepiece and protobuf for a"
            " tokenizer.model, or save the tokenizer as tokenizer.json.",
            param="base",
        ) from error


def _token_name(value: object) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _name_of_id(config: Mapping[str, Any], tokenizer_json: str) -> str | None:
    from tokenizers import Tokenizer

    wanted = config.get("eos_token_id")
    if isinstance(wanted, list):
        wanted = wanted[0] if wanted else None
    if not isinstance(wanted, int):
        return None
    name: str | None = Tokenizer.from_str(tokenizer_json).id_to_token(wanted)
    return name


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    if (folder / TEMPLATE_FILE).is_file():
        return (folder / TEMPLATE_FILE).read_text(encoding="utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):
        by_name = {entry.get("name"): entry.get("template") for entry in found}
        found = by_name.get("default")
    return found if isinstance(found, str) and found.strip() else None


def _licence(folder: Path) -> str | None:
    readme = folder / "README.md"
    if not readme.is_file():
        return None
    head = _FRONT_MATTER.match(readme.read_text(encoding="utf-8", errors="replace"))
    found = _LICENCE_LINE.search(head[1]) if head else None
    return found[1] if found else None
