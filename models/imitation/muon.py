"""Muon for matrices: momentum, orthogonalised (Jordan et al. 2024), in a dtype of choice.

`torch.optim.Muon` always orthogonalises in bfloat16, which processors without bf16 units do slowly,
and one matrix at a time; here equal shapes are one batched product.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

# Quintic Newton-Schulz coefficients of the reference implementation.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5


def orthogonalise(updates: Tensor) -> Tensor:
    """Return, roughly, the nearest semi-orthogonal matrices to `[count, rows, columns]`."""
    a, b, c = COEFFICIENTS
    x: Tensor = updates.mT if updates.shape[1] > updates.shape[2] else updates
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if updates.shape[1] > updates.shape[2] else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update has all singular values near 1, times `lr`."""

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[tuple(parameter.shape)].append(parameter)
            for shape, parameters in by_shape.items():
                updates = []
                for parameter in parameters:
                    state = self.state[parameter]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(parameter)
                    kept, gradient = state["momentum"], cast(Tensor, parameter.grad)
                    kept.lerp_(gradient, 1 - group["momentum"])
                    updates.append(gradient.lerp(kept, group["momentum"]))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                steps = orthogonalise(torch.stack(updates).to(self._dtype)).to(updates[0].dtype)
                for parameter, update in zip(parameters, steps, strict=True):
                    parameter.add_(update, alpha=-group["lr"] * scale)
