"""The core works where nothing but PyTorch can be imported."""

import json
import subprocess
import sys

import pytest

import dethead

SCRIPT = """
import sys
for name in ("torchvision", "pycocotools", "pydantic", "yaml", "accelerate"):
    sys.modules[name] = None  # importing it now raises ImportError

from functools import partial
import torch
import dethead
from dethead.losses import smooth_l1

grid = dethead.AnchorGrid.from_sizes([8], [8])
anchors = grid.place((8, 16))
scheme, codec = dethead.SoftmaxCE(), dethead.BoxCodec()
head = dethead.DetectionHead(4, 1, 3, scheme, depth=1)
truth = [dethead.GroundTruth.from_labels(anchors.boxes[:1], torch.tensor([2]), 3)]
assignment = dethead.MaxIoUAssigner()(anchors, truth)
loss = dethead.DetectionLoss(scheme, partial(smooth_l1, beta=0.1), codec)
loss(head([torch.randn(1, 4, 1, 2)]), assignment, truth, anchors).total.backward()
assert torch.isfinite(head.prediction.weight.grad).all()
{last}
"""


def run(last=""):
    script = SCRIPT.format(last=last)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_head_assigner_and_loss_need_pytorch_alone():
    result = run()
    assert result.returncode == 0, result.stderr


def test_what_needs_torchvision_says_so_when_it_is_asked_for():
    error = run("dethead.Postprocessor").stderr.splitlines()[-1]
    assert error.startswith("ModuleNotFoundError")
    assert "torchvision" in error


def test_results_are_scored_without_torchvision(tmp_path):
    """It takes as long to import as PyTorch."""
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    truth = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 20, "height": 20}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 1, "area": 81, "iscrowd": 0, **box}],
    }
    for name, content in (("truth", truth), ("found", [{"score": 0.5, **box}])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = [str(tmp_path / name) for name in ("truth.json", "found.json")]
    script = f"""
import sys
from dethead.cli import main
try:
    main(["score", *{files}])
finally:
    print("torchvision" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "AP     │ 100.0" in said
    assert said.split()[-1] == "False"


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'dethead' has no attribute 'DetectionHaed'"):
        dethead.DetectionHaed  # noqa: B018
