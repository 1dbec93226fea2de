"""An A/A check: schemes that are the same mathematics train to the same weights."""

from functools import partial

import pytest
import torch

from dethead import schemes
from dethead.anchors import AnchorGrid
from dethead.assigners import MaxIoUAssigner
from dethead.boxes import BoxCodec
from dethead.criterion import DetectionLoss
from dethead.heads import DetectionHead
from dethead.losses import smooth_l1
from dethead.structures import GroundTruth

PAIRS = {
    "focal without focus and alpha is BCE": (schemes.SigmoidBCE(), schemes.Focal(alpha=None, gamma=0.0)),
    "quality focal with beta 0 is BCE": (
        schemes.SigmoidBCE(quality_target=True),
        schemes.QualityFocal(beta=0.0),
    ),
    "asymmetric loss without asymmetry is BCE": (
        schemes.SigmoidBCE(),
        schemes.Asymmetric(gamma_pos=0.0, gamma_neg=0.0, clip=0.0),
    ),
    "poly-1 with epsilon 0 is BCE": (schemes.SigmoidBCE(), schemes.SigmoidPoly1(epsilon=0.0)),
    "multi-label softmax of one label is CE": (schemes.SoftmaxCE(), schemes.MultilabelSoftmax()),
    "KL to one-hot labels is CE": (schemes.SoftmaxCE(), schemes.KLDivergence()),
    "softmax focal without focus is CE": (schemes.SoftmaxCE(), schemes.SoftmaxFocal(gamma=0.0)),
    "balanced softmax of a balanced set is CE": (
        schemes.SoftmaxCE(),
        schemes.LogitAdjustment(class_counts=(7.0, 7.0, 7.0)),
    ),
    "LDAM without margin is CE": (
        schemes.SoftmaxCE(),
        schemes.LDAM(class_counts=(1.0, 2.0, 3.0), max_margin=0.0),
    ),
    "seesaw that has seen nothing is CE": (schemes.SoftmaxCE(), schemes.Seesaw(q=0.0)),
    "margin ranking in the row is Crammer and Singer's hinge": (
        schemes.Hinge(variant="crammer_singer"),
        schemes.MarginRanking(),
    ),
}


def trained(scheme: schemes.ClassScheme) -> torch.Tensor:
    """The weights of a head after 50 steps of SGD on random maps, in float64."""
    torch.manual_seed(0)
    grid = AnchorGrid.from_sizes([8, 16], [12, 24], ratios=[0.5, 1.0])
    anchors = grid.place((32, 32))
    head = DetectionHead(8, grid.anchors_per_cell, 3, scheme, depth=1).double()
    # Schemes start from biases of their own; here the start must be the same, too.
    head.prediction.bias.data.zero_()
    loss = DetectionLoss(scheme, partial(smooth_l1, beta=0.1), BoxCodec(), confidence_target="iou")
    optimizer = torch.optim.SGD(head.parameters(), lr=0.02, momentum=0.9)
    assigner = MaxIoUAssigner()
    for _ in range(50):
        corners = torch.rand(2, 3, 2, dtype=torch.float64) * 16
        boxes = torch.cat([corners, corners + 8 + torch.rand(2, 3, 2, dtype=torch.float64) * 8], dim=2)
        truth = [GroundTruth.from_labels(one, torch.randint(3, (3,)), 3) for one in boxes]
        maps = [torch.randn(2, 8, 4, 4, dtype=torch.float64), torch.randn(2, 8, 2, 2, dtype=torch.float64)]
        terms = loss(head(maps), assigner(anchors, truth), truth, anchors)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in head.parameters()])


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_equal_schemes_train_to_equal_weights(pair):
    one, two = map(trained, pair)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-9)


def test_unequal_schemes_do_not():
    """The check can fail: a focal loss that focuses ends elsewhere."""
    one, two = map(trained, (schemes.SigmoidBCE(), schemes.Focal(alpha=None, gamma=2.0)))
    assert (one - two).abs().max() > 1e-4
