"""The kernels of ``one_pass``: their values by Triton's interpreter, their code by Triton's compiler."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from losses.triton_cases import CASES, IGNORED, NEAR, SCHEMES, Case, all_parts, drawn
from torch._subclasses.fake_tensor import FakeTensorMode

from dethead.losses import background, one_pass
from dethead.schemes.interface import background_of

triton = pytest.importorskip("triton", reason="Triton comes with PyTorch for CUDA, on Linux")
TESTS = Path(__file__).resolve().parents[1]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """What the kernels give, by case."""
    out = tmp_path_factory.mktemp("interpreted") / "found.pt"
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    environ = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-W", "ignore", "-m", "losses.triton_cases", str(out)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return torch.load(out, weights_only=True)


def by_autograd(case: Case):
    """Scalar loss and (N, C) gradient in float64: each number is a row of one class for the plain loss."""
    raw, lesson = drawn(case)
    factors = lesson.factors.double().flatten().unsqueeze(1)
    logits = raw[..., : case.classes].double().flatten(0, 1)
    logits = logits.where(factors != 0, 0.0).requires_grad_()
    flat = logits.reshape(-1, 1)
    plain = SCHEMES[case.scheme].loss(flat, torch.zeros_like(flat), None).view_as(logits)
    weight = lesson.loss.weight if case.weighted else 1.0
    loss = (plain * weight * factors).sum()
    if case.weighted:  # takes the place of the scheme's own
        loss = loss / background_of(SCHEMES[case.scheme], raw, None).weight
    (slope,) = torch.autograd.grad(loss, logits)
    return loss.detach(), slope


def within(dtype):
    """How far a gradient may be from float64's."""
    rtol, atol = {
        torch.float64: (1e-11, 1e-13),
        torch.float32: (1e-6, 1e-6),
        torch.bfloat16: (2**-7, 1e-6),  # a GPU rounds to the nearest, the interpreter cuts off
    }[dtype]
    return {"rtol": rtol, "atol": atol}


@every_case
def test_loss_and_gradient_are_those_of_float64(case, interpreted):
    loss, slopes, gradient = interpreted["cases"][str(case)]
    wanted, slope = by_autograd(case)
    torch.testing.assert_close(loss.double(), wanted, rtol=1e-6, atol=0)
    found = gradient[..., : case.classes].flatten(0, 1)
    torch.testing.assert_close(found.double(), slope, **within(case.dtype))
    torch.testing.assert_close(slopes.double(), found.double().sum(dim=0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", NEAR, ids=str)
def test_small_losses_and_slopes_are_exact_to_a_millionth_of_themselves(case, interpreted):
    loss, _, gradient = interpreted["cases"][str(case)]
    wanted, slope = by_autograd(case)
    torch.testing.assert_close(loss.double(), wanted, rtol=5e-7, atol=0)
    found = gradient[..., : case.classes].flatten(0, 1)
    torch.testing.assert_close(found.double(), slope, rtol=1e-6, atol=0)


def operations(raw, lesson):
    """What PyTorch's operations give, which multiply an infinite slope by 0."""
    return one_pass._teach(raw.nan_to_num(posinf=200, neginf=-200), lesson)


def close(found, wanted, dtype):
    """Compare loss, slopes and gradient: both may be off float64 by as much."""
    twice = {name: 2 * value for name, value in within(dtype).items()}
    torch.testing.assert_close(found[0], wanted[0], rtol=2e-6, atol=0)
    torch.testing.assert_close(found[1], wanted[1], rtol=twice["rtol"], atol=1e-5)
    torch.testing.assert_close(found[2], wanted[2], **twice)


@every_case
def test_loss_and_gradient_are_those_of_pytorchs_operations(case, interpreted):
    close(interpreted["cases"][str(case)], operations(*drawn(case)), case.dtype)


@every_case
def test_ignored_rows_and_the_last_five_columns_get_exactly_nothing(case, interpreted):
    _, _, gradient = interpreted["cases"][str(case)]
    assert not gradient[..., case.classes :].any()
    assert not gradient.flatten(0, 1)[list(IGNORED)].any()


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_all_parts_of_an_output_get_their_gradients(factor, interpreted):
    raw, lesson = drawn(CASES[0])
    wanted = all_parts(raw.nan_to_num(posinf=200, neginf=-200), lesson, factor)
    torch.testing.assert_close(interpreted["parts"][factor], wanted, rtol=1e-6, atol=1e-5)


def test_the_formulas_are_known_by_name_and_others_are_not():
    from dethead.losses.one_pass_triton import known

    assert known(background.bce) == ("bce", 0, 0, 0)
    asked = partial(background.asymmetric, gamma=4, clip=0.05)
    assert known(asked) == ("asymmetric", 4, 0, 0.05)
    assert known(lambda logits, room: (logits, logits)) is None
    assert known(partial(lambda logits, room, gamma: (logits, logits), gamma=2.0)) is None


def test_every_formula_of_a_scheme_is_known():
    from dethead.losses.one_pass_triton import known

    raw = torch.empty(1, 3)
    names = {known(background_of(scheme, raw, None).formula).name for scheme in SCHEMES.values()}
    assert names == {"bce", "focal", "poly1", "asymmetric"}


GPU = torch.device("cuda", 0)


@pytest.fixture
def on_gpu(monkeypatch):
    """Ask for the kernels of a GPU with this compute capability, which is not there."""

    def ask(capability):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        return one_pass._kernels_on.__wrapped__(GPU)

    return ask


def test_on_a_cpu_there_are_no_kernels():
    assert one_pass._kernels(torch.empty(1)) is None


def test_what_stands_for_a_tensor_on_a_gpu_is_given_to_no_kernel():
    with FakeTensorMode():
        assert one_pass._kernels(torch.empty(1, device="cuda")) is None


def test_without_triton_there_are_no_kernels(on_gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    assert on_gpu((9, 0)) is None


def test_a_gpu_older_than_tritons_oldest_gets_no_kernels(on_gpu):
    assert on_gpu((6, 1)) is None


class Driver:
    """Stands for Triton's, with what it says when it is started."""

    def __init__(self, error=None):
        self.error = error

    @property
    def active(self):
        return self

    def get_current_target(self):
        if self.error:
            raise self.error


def test_where_triton_cannot_start_it_is_said_and_the_losses_still_work(on_gpu, monkeypatch):
    monkeypatch.setattr(triton.runtime, "driver", Driver(RuntimeError("Failed to find C compiler")))
    with pytest.warns(UserWarning, match="Triton cannot start: Failed to find C compiler"):
        assert on_gpu((9, 0)) is None


def test_where_triton_starts_there_are_kernels(on_gpu, monkeypatch):
    from dethead.losses import one_pass_triton

    monkeypatch.setattr(triton.runtime, "driver", Driver())
    assert on_gpu((7, 0)) is one_pass_triton


POINTERS = {"fp32": ("*fp32", "*fp32"), "bf16": ("*bf16", "*fp32"), "fp64": ("*fp64", "*fp64")}
"""To the output and its gradient, and to all else, by the output's type."""
TYPES = ("*fp32", "*bf16", "*fp64", "i32", "i64")


def compiled(kernel, capability, arguments, tmp_path, monkeypatch):
    """PTX of a kernel whose arguments are types, or values that are known when it is compiled."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET is set")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {name: value if value in TYPES else "constexpr" for name, value in arguments.items()}
    constants = {name: value for name, value in arguments.items() if types[name] == "constexpr"}
    # PyTorch's memory starts at multiples of 16 bytes, and Triton looks.
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(types.values()) if kind[0] == "*"}
    source = ASTSource(kernel, types, constants, aligned)
    target = GPUTarget("cuda", capability, 32)
    made = triton.compile(source, target=target, options={"enable_fp_fusion": True})
    assert made.asm["cubin"]  # PTX that NVIDIA's assembler has taken
    return made.asm["ptx"]


def vectors(ptx, what):
    """Bytes of each load or store of the output's memory: the widest."""
    sizes = re.findall(rf"{what}\.global(?:\.v(\d))?\.b(\d+)", ptx)
    return max(int(count or 1) * int(bits) // 8 for count, bits in sizes)


FORMULAS = ["bce", "focal", "poly1", "asymmetric"]
SETTINGS = {"gamma": 2.5, "epsilon": 1.0, "clip": 0.05}


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [
        (80, "fp32"),
        (90, "bf16"),
        *(
            pytest.param(capability, dtype, marks=pytest.mark.slow)
            for capability, dtype in ((75, "fp32"), (80, "bf16"), (80, "fp64"), (90, "fp32"), (90, "fp64"))
        ),
    ],
)
@pytest.mark.parametrize("formula", FORMULAS)
def test_for_real_gpus_each_formula_compiles_to_moves_of_16_bytes(
    formula, capability, dtype, tmp_path, monkeypatch
):
    from dethead.losses import one_pass_triton

    output, other = POINTERS[dtype]
    arguments = {"outputs": output, "factors": other, "weight": other, "gradient": output, "costs": other}
    arguments |= {"total": "i32", "classes": 80, "name": formula, **SETTINGS, "block": one_pass_triton.BLOCK}
    ptx = compiled(one_pass_triton._teach, capability, arguments, tmp_path, monkeypatch)
    assert f".target sm_{capability}" in ptx
    assert vectors(ptx, "ld") == vectors(ptx, "st") == 16


@pytest.mark.parametrize("dtype", ["fp32", "bf16", pytest.param("fp64", marks=pytest.mark.slow)])
def test_to_scale_a_gradient_compiles_to_moves_of_16_bytes(dtype, tmp_path, monkeypatch):
    from dethead.losses import one_pass_triton

    gradient, factor = POINTERS[dtype]
    arguments = {"gradient": gradient, "factor": factor, "total": "i64", "classes": 80}
    arguments |= {"block": one_pass_triton.BLOCK}
    ptx = compiled(one_pass_triton._scale, 80, arguments, tmp_path, monkeypatch)
    assert vectors(ptx, "ld") == vectors(ptx, "st") == 16


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def moved(case):
    """The case's output and lesson on the GPU."""
    raw, lesson = drawn(case)
    weight = lesson.loss.weight
    loss = lesson.loss._replace(weight=weight.to(GPU) if isinstance(weight, torch.Tensor) else weight)
    return raw.to(GPU), lesson._replace(loss=loss, factors=lesson.factors.to(GPU))


@pytest.mark.gpu
@needs_cuda
@every_case
def test_on_a_gpu_the_kernel_gives_what_pytorchs_operations_give(case, monkeypatch):
    raw, lesson = moved(case)
    assert one_pass._kernels(raw) is not None
    found = one_pass._teach(raw, lesson)
    monkeypatch.setattr(one_pass, "_kernels", lambda tensor: None)
    close(found, operations(raw, lesson), case.dtype)


@pytest.mark.gpu
@needs_cuda
def test_on_a_gpu_two_runs_give_the_same_bits():
    raw, lesson = moved(CASES[0])
    first, second = (one_pass._teach(raw, lesson) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.gpu
@needs_cuda
def test_on_a_gpu_nothing_waits():
    raw, lesson = moved(CASES[0])
    image = torch.zeros(1, dtype=torch.int64, device=GPU)

    def step():
        output = raw.detach().requires_grad_()
        parts = one_pass.take_apart(output, image, image, lesson)
        torch.autograd.grad(parts.background + parts.rows.sum(), output)

    step()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
