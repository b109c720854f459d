"""Muon for the matrices of a network and AdamW for everything else, as one optimizer.

torch ships a Muon, but it takes two-dimensional parameters only (convolutions are matrices too, once
flattened) and always orthogonalises in bfloat16, which CPUs without matrix units do at a fraction of their
speed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic of Keller Jordan, "Muon" (2024)


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan 2024) beside AdamW, scaled to its step size (Liu et al. 2025, arXiv:2502.16982, eq. 4).

    A parameter is a matrix, and Muon's, if it has two or more dimensions and both its first and the product
    of the others are at least `min_matrix_dim`. Exceptions go to AdamW: embeddings, and whatever must move
    slowly, since a step of Muon has the same size whether its gradient is signal or noise.

    Args:
        named_parameters: What to train.
        lr: Step size of both rules.
        weight_decay: Decoupled decay of matrices; vectors are not decayed.
        momentum: Of Muon.
        betas: Of AdamW.
        adamw_scales: For words in parameter names: they are AdamW's, at this multiple of `lr`.
        min_matrix_dim: See above.
        bfloat16: Whether matrices are orthogonalised in bfloat16, which is faster where the processor has
            matrix units for it.
        use_muon: Whether matrices are Muon's; otherwise everything is AdamW's.
        undecayed: Words in names of matrices that are not decayed either.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        adamw_scales: Mapping[str, float] | None = None,
        min_matrix_dim: int = 16,
        bfloat16: bool = False,
        use_muon: bool = True,
        undecayed: Sequence[str] = (),
    ) -> None:
        self.bfloat16 = bfloat16
        scales = {"embedding": 1.0, **(adamw_scales or {})}
        groups: dict[tuple[str, float, float], list[nn.Parameter]] = {}
        for name, parameter in named_parameters:
            flat = parameter.flatten(1) if parameter.ndim > 1 else parameter[None]
            found = [scale for word, scale in scales.items() if word in name]
            is_matrix = min(flat.shape) >= min_matrix_dim and not found
            rule = "muon" if is_matrix and use_muon else "adamw"
            decay = 0.0 if any(word in name for word in undecayed) or not is_matrix else weight_decay
            groups.setdefault((rule, min(found, default=1.0), decay), []).append(parameter)
        super().__init__(
            [
                {
                    "params": parameters,
                    "rule": rule,
                    "scale": scale,
                    "weight_decay": decay,
                }
                for (rule, scale, decay), parameters in groups.items()
            ],
            {"lr": lr, "momentum": momentum, "betas": betas, "step": 0},
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            group["step"] += 1
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters and group["rule"] == "muon":
                self._muon(parameters, group)
            elif parameters:
                self._adamw(parameters, group)

    def _muon(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        updates = []
        for parameter in parameters:
            state, grad = self.state[parameter], parameter.grad
            assert grad is not None
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffer = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
            updates.append(grad.lerp(buffer, group["momentum"]).flatten(1))
        for parameter, update in zip(parameters, orthogonalize_shared(updates, self.bfloat16), strict=True):
            size = 0.2 * max(update.shape) ** 0.5
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.view_as(parameter), alpha=-group["lr"] * size)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        beta1, beta2 = group["betas"]
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means = [self.state[parameter]["exp_avg"] for parameter in parameters]
        squares = [self.state[parameter]["exp_avg_sq"] for parameter in parameters]
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, (1 - beta2 ** group["step"]) ** 0.5)
        torch._foreach_add_(denominators, 1e-8)
        rate = group["scale"] * group["lr"] / (1 - beta1 ** group["step"])
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["scale"] * group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, means, denominators, -rate)


def orthogonalize_shared(matrices: list[Tensor], bfloat16: bool = False) -> list[Tensor]:
    """`orthogonalize` for each matrix, the work shared out over the processes of a distributed run.

    Every process holds the same matrices, does every n-th, and adds up what all have done; the zeros of the
    others leave the sums exact, so the result does not depend on the number of processes.
    """
    num_processes = dist.get_world_size() if dist.is_initialized() else 1
    if num_processes == 1:
        return [orthogonalize(matrix, bfloat16) for matrix in matrices]
    rank = dist.get_rank()
    parts = [
        orthogonalize(matrix, bfloat16) if index % num_processes == rank else torch.zeros_like(matrix)
        for index, matrix in enumerate(matrices)
    ]
    flat = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(flat)
    split = flat.split([matrix.numel() for matrix in matrices])
    return [part.view_as(matrix) for part, matrix in zip(split, matrices, strict=True)]


def orthogonalize(matrix: Tensor, bfloat16: bool = False, num_steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrix, roughly: Newton-Schulz brings singular values to between 0.7 and 1.2.

    The iteration is `X <- (a I + b G + c G^2) X` with `G = X X^T`. It is run on the small Gram matrix alone,
    which commutes with every factor, and multiplied onto the matrix once at the end: for wide matrices a
    third of the work. In bfloat16, where rounding would add up in that product, it is run as it stands.
    """
    a, b, c = _NEWTON_SCHULZ
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / (wide.norm() + 1e-7)
    if bfloat16:
        result = wide.bfloat16()
        for _ in range(num_steps):
            gram = result @ result.T
            factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
            result = torch.addmm(result, factor, result, beta=a)
        result = result.to(matrix.dtype)
    else:
        gram = wide @ wide.T
        identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        product = identity
        for step in range(num_steps):
            factor = torch.addmm(gram, gram, gram, beta=b, alpha=c).add_(identity, alpha=a)
            product = factor @ product
            if step < num_steps - 1:
                gram = factor @ gram @ factor
        result = product @ wide
    return result.T if matrix.shape[0] > matrix.shape[1] else result
