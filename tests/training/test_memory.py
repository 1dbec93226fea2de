"""Memory that a process keeps: how often the system has to clear pages for it."""

import platform
import subprocess
import sys

import pytest

from dethead.training import memory

# The pages of 64 MiB that each of ten tensors touches, all of them freed before the next.
FAULTS = """
import resource
import torch
from dethead.training.memory import keep_freed_memory
assert {keep} is False or keep_freed_memory()
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep):
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_memory_that_is_kept_is_not_cleared_again():
    # Without it, 10 times the pages of 64 MiB; with it, once at most: the first was in another place.
    assert faults(keep=True) * 5 < faults(keep=False)


def test_other_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: pytest.fail("the library is called"))
    assert not memory.keep_freed_memory()
