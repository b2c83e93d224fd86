"""A Llama-architecture decoder, as GGUF's `llama` describes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

FINAL_GAIN = 0.08


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder.

    `rope_base` is high, so that half of a head's dimensions turn by less than one radian over
    1,000 tokens and can compare content at any distance.
    """

    vocab_size: int = 8192
    width: int = 256
    num_layers: int = 6
    num_heads: int = 4
    num_kv_heads: int = 2
    hidden: int = 768
    context: int = 2048
    rope_base: float = 500_000.0
    norm_eps: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.num_heads


class Norm(nn.Module):
    """Root-mean-square norm with one learned factor a dimension."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `x` `[batch, length, heads, head_width]` with RoPE on neighbouring pairs.

    `cos` and `sin` are `[batch, length, 1, head_width / 2]`. GGUF's llama pairs dimensions
    (0, 1), (2, 3), ...; Hugging Face pairs halves instead.
    """
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Attention(nn.Module):
    """Grouped-query attention; query heads `2i` and `2i + 1` share key head `i` in `Shape()`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv_width = shape.num_kv_heads * shape.head_width
        self.q = nn.Linear(shape.width, shape.width, bias=False)
        self.k = nn.Linear(shape.width, kv_width, bias=False)
        self.v = nn.Linear(shape.width, kv_width, bias=False)
        self.o = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        shape = self.shape
        q = rotate(self.q(x).view(batch, length, shape.num_heads, -1), cos, sin)
        k = rotate(self.k(x).view(batch, length, shape.num_kv_heads, -1), cos, sin)
        v = self.v(x).view(batch, length, shape.num_kv_heads, -1)
        groups = shape.num_heads // shape.num_kv_heads
        k, v = k.repeat_interleave(groups, dim=2), v.repeat_interleave(groups, dim=2)
        mixed = functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask
        )
        out: Tensor = self.o(mixed.transpose(1, 2).reshape(batch, length, width))
        return out


class Block(nn.Module):
    """Attention and a gated MLP, each behind its norm, each added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = Norm(shape.width, shape.norm_eps)
        self.attention = Attention(shape)
        self.mlp_norm = Norm(shape.width, shape.norm_eps)
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, mask)
        h = self.mlp_norm(x)
        out: Tensor = x + self.down(functional.silu(self.gate(h)) * self.up(h))
        return out


class Decoder(nn.Module):
    """Token ids → final hidden states; `logits` applies the tied embedding to some of them."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.num_layers))
        self.norm = Norm(shape.width, shape.norm_eps)
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            std = 1.0 if name.startswith("embedding") else parameter.shape[1] ** -0.5
            if name.endswith(("o.weight", "down.weight")):
                # Writers start small against the residual stream, which begins as the embedding.
                std *= 0.3 / math.sqrt(2 * shape.num_layers)
            nn.init.normal_(parameter, std=std, generator=generator)
        # The embedding is the output matrix too; this brings its logits back to order 1.
        nn.init.constant_(self.norm.weight, FINAL_GAIN)

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Return `[batch, length, width]` hidden states after the final norm.

        `tokens` and `positions` are int64 `[batch, length]`; `mask` is bool
        `[batch, 1, length, length]`, true where a row may see a column.
        """
        half = self.shape.head_width // 2
        rates = self.shape.rope_base ** (-torch.arange(half, device=tokens.device) / half)
        angles = (positions[..., None].float() * rates)[:, :, None, :]
        cos, sin = angles.cos(), angles.sin()
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        out: Tensor = self.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Return `[..., vocab_size]` for hidden states `[..., width]`."""
        return functional.linear(hidden, self.embedding.weight)
