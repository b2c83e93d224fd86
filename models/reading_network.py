"""The network behind `models.reader`: the embedder's, with blocks that were trained to read.

A question and a sentence go through the blocks together, so that each word of the one sees every
word of the other; how far the two halves agree then is most of the answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from models.errors import ReaderInvalid

FORMAT = "mynah reader 1"
# What the agreement of the halves is worth at first: log odds of 6 for equal ones, -6 for none.
_FIRST_SCALE, _FIRST_BIAS = 12.0, -6.0
# Unit vectors of some hundred dimensions have small entries; as large as these they learn as fast.
_PRODUCT_GAIN, _HALF_GAIN = 20.0, 5.0
_FROZEN = "encoder.embeddings."


class ReadingNetwork(nn.Module):
    """Log odds that a sentence answers a question, from the token ids of both."""

    def __init__(self, base: Path) -> None:
        """Begins as the sentence embedder in the folder `base`, whose word table stays as it is."""
        super().__init__()
        from transformers import AutoModel

        self.encoder: Any = AutoModel.from_pretrained(str(base), local_files_only=True)
        self.freeze_words()
        width = int(self.encoder.config.hidden_size)
        self.head = nn.Linear(3 * width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, _FIRST_BIAS)
        self.scale = nn.Parameter(torch.tensor(_FIRST_SCALE))

    def freeze_words(self) -> None:
        """Leave the word table out of what is trained."""
        self.encoder.embeddings.requires_grad_(False)

    def forward(self, ids: Tensor, halves: Tensor, mask: Tensor) -> Tensor:
        """Log odds `[pairs]` for int64 `[pairs, length]`; `halves` is 1 for the sentence's ids."""
        states = self.encoder(
            input_ids=ids, token_type_ids=halves, attention_mask=mask
        ).last_hidden_state.float()
        second = halves[..., None].float()
        first = mask[..., None].float() * (1 - second)
        asked = functional.normalize((states * first).sum(1) / first.sum(1), dim=-1)
        said = functional.normalize((states * second).sum(1) / second.sum(1), dim=-1)
        seen = torch.cat(
            [_PRODUCT_GAIN * asked * said, _HALF_GAIN * asked, _HALF_GAIN * said], dim=-1
        )
        agreement: Tensor = self.scale * (asked * said).sum(-1)
        odds: Tensor = agreement + self.head(seen)[:, 0]
        return odds

    def save(self, path: Path) -> None:
        """Write what was trained, in half precision, aside and then renamed."""
        tensors = {
            name: tensor.detach().to(torch.float16).contiguous()
            for name, tensor in self.state_dict().items()
            if not name.startswith(_FROZEN)
        }
        aside = path.with_suffix(".part")
        save_file(tensors, aside, metadata={"format": FORMAT})
        aside.replace(path)


def load_network(path: Path, base: Path) -> ReadingNetwork:
    """The network in the file `path` over the embedder in `base`, for reading alone.

    Raises `ReaderInvalid` where the file is damaged, or was trained over another embedder.
    """
    network = ReadingNetwork(base)
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("format") != FORMAT:
                raise ValueError("it is no reader")
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        missing, unknown = network.load_state_dict(tensors, strict=False)
        if unknown or any(not name.startswith(_FROZEN) for name in missing):
            raise ValueError("it does not fit the embedder")
    except Exception as error:  # the library raises bare exceptions of its own
        reason = " ".join(str(error).split())[:200]
        raise ReaderInvalid(f"{path} cannot be read: {reason}; install Mynah again.") from error
    return network.eval().requires_grad_(False)
