"""Huge pages: asked for behind large new tensors alone, in whole pages of theirs."""

import mmap
from pathlib import Path

import pytest
import torch

from dethead.losses import huge_pages
from dethead.losses.huge_pages import LEAST, in_huge_pages

SMAPS = Path("/proc/self/smaps")


def flags(tensor):
    """What Linux notes about the memory in the middle of a tensor."""
    middle, found = tensor.data_ptr() + tensor.nbytes // 2, False
    for line in SMAPS.read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            start, end = (int(place, 16) for place in first.split("-"))
            found = start <= middle < end
        elif found and first == "VmFlags:":
            return line.split()[1:]
    raise AssertionError("no such memory")


@pytest.fixture
def requests(monkeypatch):
    """The calls that would go to the system."""
    seen = []
    monkeypatch.setattr(huge_pages, "_madvise", lambda: lambda *call: seen.append(call))
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 14, raising=False)
    return seen


@pytest.mark.skipif(
    not (SMAPS.exists() and hasattr(mmap, "MADV_HUGEPAGE")), reason="Linux tells of its pages in /proc"
)
def test_the_system_notes_the_request():
    assert "hg" in flags(in_huge_pages(torch.empty(2 * LEAST, dtype=torch.uint8)))


@pytest.mark.parametrize("size", [LEAST, LEAST + 1, LEAST + 5000])
def test_the_request_is_for_the_whole_pages_of_the_tensor(size, requests):
    new = torch.empty(size, dtype=torch.uint8)
    assert in_huge_pages(new) is new
    [(start, length, _)] = requests
    assert start % mmap.PAGESIZE == length % mmap.PAGESIZE == 0
    assert 0 <= start - new.data_ptr() < mmap.PAGESIZE
    assert 0 <= new.data_ptr() + size - start - length < mmap.PAGESIZE


@pytest.mark.parametrize("size", [0, 1, LEAST - 1])
def test_a_smaller_tensor_is_left_alone(size, requests):
    in_huge_pages(torch.empty(size, dtype=torch.uint8))
    assert requests == []


def test_a_tensor_on_another_device_is_left_alone(requests):
    in_huge_pages(torch.empty(2 * LEAST, device="meta"))
    assert requests == []


def test_a_system_without_huge_pages_is_not_asked(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    assert huge_pages._madvise.__wrapped__() is None
