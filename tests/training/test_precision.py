"""Which precision a training has where the config leaves it to the machine."""

import json
import math

import pytest
import torch
from tiny_runs import log_lines, train_tiny, weights

from dethead.training import accelerator, start
from dethead.training.accelerator import make_accelerator, supports_bfloat16

ASKED = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


def pretend(monkeypatch, *, avx512, amx):
    for name, answer in zip(ASKED, (avx512, amx), strict=True):
        monkeypatch.setattr(torch.cpu, name, lambda answer=answer: answer, raising=False)


@pytest.mark.parametrize(("avx512", "amx"), [(True, False), (False, True), (False, False)])
def test_a_cpu_has_bfloat16_by_either_set_of_instructions(monkeypatch, avx512, amx):
    pretend(monkeypatch, avx512=avx512, amx=amx)
    assert supports_bfloat16(cpu=True) is (avx512 or amx)


def test_a_pytorch_that_cannot_be_asked_has_none(monkeypatch):
    for name in ASKED:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not supports_bfloat16(cpu=True)


def test_no_device_beside_the_cpu_has_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not supports_bfloat16(cpu=False)


@pytest.mark.parametrize(("there", "precision"), [(True, "bf16"), (False, "no")])
def test_auto_is_what_the_machine_has(monkeypatch, there, precision):
    monkeypatch.setattr(accelerator, "supports_bfloat16", lambda cpu: cpu and there)
    assert make_accelerator("cpu", "auto").mixed_precision == precision


def test_a_named_precision_does_not_ask_the_machine(monkeypatch):
    monkeypatch.setattr(accelerator, "supports_bfloat16", lambda cpu: pytest.fail("asked"))
    assert make_accelerator("cpu", "no").mixed_precision == "no"
    assert make_accelerator("cpu", "bf16").mixed_precision == "bf16"


def test_a_training_in_bfloat16_keeps_its_weights_in_float32_and_says_so(monkeypatch, tiny_data, tmp_path):
    pretend(monkeypatch, avx512=True, amx=False)
    train_tiny(tiny_data, tmp_path / "run", "training.epochs=1", "training.precision=auto")
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["precision"] == "bf16"
    assert all(math.isfinite(line["total"]) for line in log_lines(tmp_path / "run") if "val" not in line)
    floating = [value for value in weights(tmp_path / "run").values() if value.is_floating_point()]
    assert {value.dtype for value in floating} == {torch.float32}


@pytest.mark.parametrize(("config", "wanted"), [("auto", "bf16"), ("bf16", "bf16")])
def test_a_run_that_goes_on_elsewhere_keeps_its_precision(monkeypatch, tiny_data, tmp_path, config, wanted):
    pretend(monkeypatch, avx512=True, amx=False)
    changes = ("training.epochs=1", f"training.precision={config}")
    train_tiny(tiny_data, tmp_path / "run", *changes)
    pretend(monkeypatch, avx512=False, amx=False)
    made = []
    monkeypatch.setattr(
        start, "make_accelerator", lambda *given: made.append(make_accelerator(*given)) or made[0]
    )
    train_tiny(tiny_data, tmp_path / "run", *changes, resume=True)
    assert [one.mixed_precision for one in made] == [wanted]
