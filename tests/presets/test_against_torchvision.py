"""RetinaNet and FCOS against the installed torchvision: matching, losses and gradients on random outputs."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops import box_iou

from dethead.boxes import anchor_code
from dethead.criterion import Term
from dethead.losses import smooth_l1
from dethead.normalisers import by_positives, by_positives_per_image
from dethead.presets import fcos_torchvision, retinanet_torchvision, retinanet_torchvision_v2
from dethead.schemes import Focal
from dethead.structures import GroundTruth, HeadOutput, Resize

C = 3
SIZE = (128, 128)  # a whole number of cells on every level: no anchor stands outside


class Backbone(torch.nn.Module):
    out_channels = 32


def retinanet(loss_type="l1"):
    model = RetinaNet(Backbone(), C)
    model.head.regression_head._loss_type = loss_type  # what retinanet_resnet50_fpn_v2 does
    return model


def random_boxes(count):
    corner = torch.rand(count, 2, dtype=torch.float64) * 60
    return torch.cat([corner, corner + 12 + torch.rand(count, 2, dtype=torch.float64) * 60], dim=1)


class Case:
    """The same random image batch, with an image without objects, for both sides; all in float64."""

    def __init__(self, preset):
        self.preset = preset
        placed = preset.grid.place(SIZE)
        self.anchors = placed._replace(boxes=placed.boxes.double())
        self.boxes = [random_boxes(count) for count in (7, 4, 0)]
        self.labels = [torch.randint(C, (len(some),)) for some in self.boxes]
        self.raw = torch.randn(3, len(placed.boxes), C + 5, dtype=torch.float64, requires_grad=True)

    def truth(self):
        return [
            GroundTruth.from_labels(*pair, num_classes=C)
            for pair in zip(self.boxes, self.labels, strict=True)
        ]

    def ours(self, criterion=None):
        """Classification, confidence and box loss."""
        assignment = self.preset.assigner(self.anchors, self.truth())
        criterion = criterion or self.preset.criterion
        terms = criterion(HeadOutput(self.raw), assignment, self.truth(), self.anchors)
        return terms.classification, terms.confidence, terms.box

    def theirs(self, model):
        output = HeadOutput(self.raw)
        targets = [{"boxes": b, "labels": n} for b, n in zip(self.boxes, self.labels, strict=True)]
        anchors = [self.anchors.boxes] * len(targets)
        heads = {"cls_logits": output.class_logits, "bbox_regression": output.box_deltas}
        if isinstance(model, FCOS):
            heads["bbox_regression"] = output.box_deltas.relu()  # the last layer of its head
            heads["bbox_ctrness"] = output.confidence_logits.unsqueeze(-1)
            levels = [level.stop - level.start for level in self.anchors.levels]
            losses = model.compute_loss(targets, heads, anchors, levels)
        else:
            losses = model.compute_loss(targets, heads, anchors)
        none = self.raw.sum() * 0
        return losses["classification"], losses.get("bbox_ctrness", none), losses["bbox_regression"]

    def gradient(self, terms):
        return torch.autograd.grad(sum(terms), self.raw)[0]


PAIRS = [
    pytest.param(retinanet_torchvision, retinanet, id="retinanet"),
    pytest.param(retinanet_torchvision_v2, lambda: retinanet("giou"), id="retinanet_v2"),
    pytest.param(fcos_torchvision, lambda: FCOS(Backbone(), C), id="fcos"),
]


@pytest.mark.parametrize(("preset", "model"), PAIRS)
@pytest.mark.parametrize("seed", range(3))
def test_losses_and_gradients_are_torchvisions(preset, model, seed):
    torch.manual_seed(seed)
    case = Case(preset())
    ours, theirs = case.ours(), case.theirs(model())
    assert all(loss > 0.1 for loss in theirs if loss is not theirs[1])
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-6, atol=0)
    wanted = case.gradient(theirs)
    torch.testing.assert_close(case.gradient(ours), wanted, rtol=1e-6, atol=1e-6 * wanted.abs().max().item())


def test_the_centreness_of_fcos_is_taught_on_positives_alone():
    case = Case(fcos_torchvision())
    positive = case.preset.assigner(case.anchors, case.truth()).matched >= 0
    taught = HeadOutput(case.gradient(case.ours())).confidence_logits != 0
    assert positive.any()
    assert (taught <= positive).all()
    assert case.theirs(FCOS(Backbone(), C))[1] > 0.1


@pytest.mark.parametrize(("preset", "model"), [PAIRS[0].values, PAIRS[2].values], ids=["retinanet", "fcos"])
def test_a_batch_without_objects_costs_what_it_costs_in_torchvision(preset, model):
    case = Case(preset())
    case.boxes, case.labels = [case.boxes[2]] * 3, [case.labels[2]] * 3
    ours, theirs = case.ours(), case.theirs(model())
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-6, atol=0)
    assert ours[0] > 1


def test_a_box_that_no_anchor_touches_is_where_the_two_differ():
    case, far = Case(retinanet_torchvision()), torch.tensor([[5000.0, 5000, 5010, 5010]]).double()
    case.boxes, case.labels = [far] * 3, [torch.tensor([0])] * 3
    assert (case.preset.assigner(case.anchors, case.truth()).matched < 0).all()
    matcher = retinanet().proposal_matcher
    assert (matcher(box_iou(far, case.anchors.boxes)) == 0).all()


@pytest.mark.parametrize(("preset", "model"), PAIRS)
def test_the_same_output_becomes_the_same_detections(preset, model):
    case = Case(preset())
    raw = case.raw.detach().float()
    raw[..., :C] -= 5  # few pass, so that nothing is cut off on either side
    raw[..., C] += 2.5
    raw[..., -4:] = 0.1 * raw[..., -4:] + torch.tensor(
        anchor_code(case.preset.codec)
    )  # all stay in the image
    output, levels = HeadOutput(raw), case.anchors.levels
    boxes = output.box_deltas.relu() if isinstance(model := model(), FCOS) else output.box_deltas
    heads = {"cls_logits": output.class_logits, "bbox_regression": boxes}
    if isinstance(model, FCOS):
        heads["bbox_ctrness"] = output.confidence_logits.unsqueeze(-1)
    heads = {name: [values[:, level] for level in levels] for name, values in heads.items()}
    anchors = [[case.anchors.boxes[level].float() for level in levels]] * len(raw)
    theirs = model.postprocess_detections(heads, anchors, [SIZE] * len(raw))
    placed = case.preset.grid.place(SIZE)
    ours = case.preset.postprocessor(output, placed, [Resize(SIZE, (1.0, 1.0))] * len(raw))
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine.scores) > 10
        torch.testing.assert_close(mine.boxes, other["boxes"], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(mine.scores, other["scores"])
        assert mine.labels.tolist() == other["labels"].tolist()


CHANGES = {
    "alpha": lambda c: setattr(c, "scheme", Focal(alpha=0.3, gamma=2.0)),
    "gamma": lambda c: setattr(c, "scheme", Focal(alpha=0.25, gamma=1.5)),
    "class divisor": lambda c: setattr(c, "class_term", Term(1.0, by_positives)),
    "box divisor": lambda c: setattr(c, "box_term", Term(1.0, by_positives)),
    "box weight": lambda c: setattr(c, "box_term", Term(2.0, by_positives_per_image)),
    "anchors": lambda c: setattr(c, "class_on", "positives"),
    "box loss": lambda c: setattr(c, "box_loss", lambda *args: smooth_l1(*args, beta=0.1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_with_one_number_changed_it_is_not_torchvisions(change):
    case = Case(retinanet_torchvision())
    change(case.preset.criterion)
    ours, theirs = (torch.stack(losses) for losses in (case.ours(), case.theirs(retinanet())))
    assert ((ours - theirs).abs() > 1e-3 * theirs).any()


def test_the_anchors_of_retinanet_have_torchvisions_shapes_in_its_order():
    cells = RetinaNet(Backbone(), C).anchor_generator.cell_anchors
    theirs = [[(x2 - x1, y2 - y1) for x1, y1, x2, y2 in level.tolist()] for level in cells]
    for preset in (retinanet_torchvision(), retinanet_torchvision_v2()):
        assert [list(level) for level in preset.grid.shapes] == theirs


@pytest.mark.parametrize(("preset", "model"), PAIRS)
def test_scores_are_cut_suppressed_and_counted_as_in_torchvision(preset, model):
    postprocessor, model = preset().postprocessor, model()
    ours = SimpleNamespace(
        score_thresh=postprocessor.score_threshold,
        nms_thresh=postprocessor.nms_iou,
        detections_per_img=postprocessor.max_detections,
        topk=postprocessor.pre_nms_top_k,
    )
    assert vars(ours) == {
        "score_thresh": model.score_thresh,
        "nms_thresh": model.nms_thresh,
        "detections_per_img": model.detections_per_img,
        "topk": model.topk_candidates * 5,
    }


@pytest.mark.parametrize(("preset", "model"), PAIRS)
def test_heads_start_with_torchvisions_biases(preset, model):
    preset, head = preset(), model().head
    bias = preset.scheme.initial_bias(C, preset.head["class_prior"])
    torch.testing.assert_close(head.classification_head.cls_logits.bias[:C].detach(), bias)
    assert head.regression_head.bbox_reg.bias[:4].tolist() == list(preset.head["box_bias"])
    if hasattr(head.regression_head, "bbox_ctrness"):
        confidence = torch.tensor(preset.head["confidence_prior"]).logit()
        assert head.regression_head.bbox_ctrness.bias.item() == confidence
