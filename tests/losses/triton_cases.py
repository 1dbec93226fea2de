"""Cases of the kernels of ``one_pass``, and a program that runs them in Triton's interpreter, on a CPU.

    TRITON_INTERPRET=1 python -m losses.triton_cases FILE

Triton decides when it is imported whether it interprets: that takes a process of its own.
"""

import math
import sys
from dataclasses import dataclass

import torch

from dethead.losses import one_pass
from dethead.losses.one_pass import Lesson, take_apart
from dethead.schemes import Asymmetric, Focal, SigmoidBCE, SigmoidPoly1
from dethead.schemes.interface import background_of

SCHEMES = {
    "bce": SigmoidBCE(),
    "focal, gamma 1": Focal(alpha=None, gamma=1),
    "focal, gamma 2": Focal(alpha=0.25, gamma=2.0),
    "focal, gamma 2.5": Focal(alpha=None, gamma=2.5),
    "poly1": SigmoidPoly1(epsilon=1.0),
    "poly1 from above": SigmoidPoly1(epsilon=-1.0),
    "asymmetric": Asymmetric(gamma_pos=0, gamma_neg=4, clip=0.05),
    "asymmetric, gamma 0": Asymmetric(gamma_pos=0, gamma_neg=0, clip=0.2),
    "asymmetric, gamma 1": Asymmetric(gamma_pos=0, gamma_neg=1, clip=0.2),
    "asymmetric, gamma 1.5": Asymmetric(gamma_pos=0, gamma_neg=1.5, clip=0.05),
}
IGNORED = {0: math.inf, 1: -math.inf, 3: 3e38, 6: 200.0}
"""Rows of factor 0, and what all their numbers are."""


@dataclass(frozen=True)
class Case:
    scheme: str
    rows: int
    classes: int
    dtype: torch.dtype
    weighted: bool = False
    near: float | None = None
    """What all logits are near; None: they are of all sizes."""

    def __str__(self) -> str:
        told = ", weighted" * self.weighted + ("" if self.near is None else f", near {self.near}")
        return f"{self.scheme}, {self.rows} x {self.classes}, {self.dtype}{told}"


SIZES = ((700, 1), (300, 3), (256, 3), (61, 80), (30, 85), (9, 1203))
"""Rows and classes: with their five other columns, never a whole number of blocks, but for the third."""
NEAR = [
    Case(scheme, 61, 80, torch.float32, near=near)
    for scheme in ("bce", "focal, gamma 2")
    for near in (-5.0, 0.0)  # of a head at its start, with a low prior and with none
]
CASES = [
    *(Case(scheme, 61, 80, dtype) for scheme in SCHEMES for dtype in (torch.float32, torch.bfloat16)),
    *(Case(scheme, 61, 80, torch.float64) for scheme in ("focal, gamma 2.5", "asymmetric")),
    *(Case("focal, gamma 2", *size, torch.float32, weighted=True) for size in SIZES),
    *(Case("focal, gamma 2", *size, torch.bfloat16) for size in SIZES if size != (61, 80)),
    *NEAR,
]


def drawn(case: Case) -> tuple[torch.Tensor, Lesson]:
    """(2, A, C + 5) output, or (1, N, C + 5) of an odd number of rows, and what it is taught."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(case.rows, case.classes + 5, dtype=torch.float64, generator=generator)
    if case.near is None:
        raw = 6 * raw
        raw[2], raw[4] = 200.0, -200.0
    else:
        raw = case.near + 0.2 * raw
    factors = 0.5 + torch.rand(case.rows, generator=generator)
    for row, value in IGNORED.items():
        raw[row], factors[row] = value, 0.0
    images = 2 if case.rows % 2 == 0 else 1
    raw = raw.to(case.dtype).view(images, -1, case.classes + 5)
    loss = background_of(SCHEMES[case.scheme], raw, None)
    if case.weighted:
        loss = loss._replace(weight=0.5 + torch.rand(case.classes, generator=generator))
    return raw, Lesson(loss, factors.view(images, -1), observed=True)


def all_parts(raw: torch.Tensor, lesson: Lesson, factor: float) -> dict[str, torch.Tensor]:
    """What ``take_apart`` gives, and the gradient of a sum of it in which the background has a factor."""
    raw = raw.detach().requires_grad_()
    row = torch.tensor([4])
    parts = take_apart(raw, torch.zeros_like(row), row, lesson)
    total = factor * parts.background + parts.rows.sum() + parts.confidence[0, 2]
    (gradient,) = torch.autograd.grad(total, raw)
    return {"loss": parts.background.detach(), "gradient": gradient, "slopes": parts.slopes}


def main(path: str) -> None:
    """Write what the kernels give for all cases."""
    from dethead.losses import one_pass_triton

    one_pass._kernels = lambda tensor: one_pass_triton  # as on a GPU
    torch.set_num_threads(1)
    found = {str(case): one_pass._teach(*drawn(case)) for case in CASES}
    parts = {factor: all_parts(*drawn(CASES[0]), factor) for factor in (1.0, 3.0)}
    torch.save({"cases": found, "parts": parts}, path)


if __name__ == "__main__":
    main(sys.argv[1])
