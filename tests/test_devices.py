"""Numbers of the host on a device that is not waited for."""

import pytest
import torch

from dethead import devices
from dethead.devices import is_behind, numbers

VALUES = [[], [0.1], [1, -2, 3], [10.0, 10.0, 5.0, 5.0], [0.1 * n for n in range(500)]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("behind", [(), ("cpu",)], ids=["copied", "given to a kernel"])
@pytest.mark.parametrize("values", VALUES, ids=len)
def test_numbers_are_those_of_torch_tensor_to_the_bit(values, behind, dtype, monkeypatch):
    monkeypatch.setattr(devices, "BEHIND", behind)
    found = numbers(values, torch.zeros(1, dtype=dtype))
    assert found.dtype == dtype
    assert torch.equal(found, torch.tensor(values, dtype=dtype))


@pytest.mark.parametrize("behind", [(), ("cpu",)], ids=["copied", "given to a kernel"])
def test_large_integers_stay_exact(behind, monkeypatch):
    monkeypatch.setattr(devices, "BEHIND", behind)
    values = [0, 2**24 + 1, 2**53 + 1]
    assert numbers(values, torch.zeros(0, dtype=torch.int64)).tolist() == values


@pytest.mark.parametrize("behind", [(), ("cpu",)], ids=["copied", "given to a kernel"])
def test_numbers_have_no_gradient_whatever_they_are_like(behind, monkeypatch):
    monkeypatch.setattr(devices, "BEHIND", behind)
    assert not numbers([1.0, 2.0], torch.zeros(1, requires_grad=True)).requires_grad


def test_a_cpu_is_at_hand_and_a_gpu_is_not():
    assert not is_behind(torch.zeros(1))
    with torch._subclasses.FakeTensorMode():
        assert is_behind(torch.zeros(1, device="cuda"))
