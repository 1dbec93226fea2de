"""Time scores, decoding and suppression beside torchvision's SSDlite.

    python benchmarks/postprocess.py [--quick] [--json FILE]

Random outputs of SSDlite320's size: 8 images, 3234 anchors, 90 classes. The background logit is raised until
so many (anchor, class) pairs of an image pass the threshold of 0.001. ``postprocess_detections`` takes the
best 300 of each class, dethead all pairs of the image; both suppress within classes above IoU 0.55 and give
300 detections. dethead's head says the same in its own way: the class logits as they are, and the confidence
that is 1 minus torchvision's background probability. Before a time is printed the detections are compared:
the same boxes and labels, scores to 1e-5. Times are the least of some rounds, contenders in turn.
"""

import argparse
from collections.abc import Callable

import torch
from side_by_side import Row, compare, environment, finish, least, ms, parser
from torch import Tensor
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from dethead.boxes import BoxCodec
from dethead.postprocess import Postprocessor
from dethead.schemes import SoftmaxCE
from dethead.structures import Anchors, Detections, HeadOutput, Resize

IMAGES, ANCHORS, CLASSES, SIZE = 8, 3234, 90, 320
ASKED = {9_000: 3.0, 66_000: 10.0, 268_000: 10.0}
THRESHOLD, NMS_IOU, WANTED = 0.001, 0.55, 300


def draw(images: int, candidates: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give (B, A, 1 + C) logits, background first, (B, A, 4) deltas and (A, 4) anchors."""
    generator = torch.Generator().manual_seed(candidates)
    logits = torch.randn(images, ANCHORS, 1 + CLASSES, generator=generator)
    low, high = 0.0, 20.0
    for _ in range(20):
        middle = (low + high) / 2
        raised = logits + torch.eye(1 + CLASSES)[0] * middle
        passing = int((raised.softmax(-1)[..., 1:] > THRESHOLD).sum())
        low, high = (middle, high) if passing > candidates * images else (low, middle)
    deltas = torch.randn(images, ANCHORS, 4, generator=generator)
    center = torch.rand(ANCHORS, 2, generator=generator) * SIZE
    half = 4 + 50 * torch.rand(ANCHORS, 2, generator=generator)
    return raised, deltas, torch.cat([center - half, center + half], dim=1)


def torchvisions(logits: Tensor, deltas: Tensor, anchors: Tensor) -> Callable[[], list[dict[str, Tensor]]]:
    """Give torchvision's call."""
    peer = ssdlite320_mobilenet_v3_large(
        weights=None,
        weights_backbone=None,
        score_thresh=THRESHOLD,
        nms_thresh=NMS_IOU,
        detections_per_img=WANTED,
        topk_candidates=300,
    )
    outputs = {"bbox_regression": deltas, "cls_logits": logits}
    images = len(logits)
    return lambda: peer.postprocess_detections(outputs, [anchors] * images, [(SIZE, SIZE)] * images)


def detheads(logits: Tensor, deltas: Tensor, anchors: Tensor) -> Callable[[], list[Detections]]:
    """Give dethead's call, on a head output that means the same."""
    exact = logits.double()
    confidence = (exact[..., 1:].logsumexp(-1) - exact[..., 0]).float()
    output = HeadOutput.from_parts(logits[..., 1:], confidence, deltas)
    post = Postprocessor(
        SoftmaxCE(),
        BoxCodec(weights=(10.0, 10.0, 5.0, 5.0)),
        score_threshold=THRESHOLD,
        pre_nms_top_k=ANCHORS * CLASSES,
        nms_iou=NMS_IOU,
        max_detections=WANTED,
    )
    placed = Anchors(anchors, (slice(0, ANCHORS),), (1,), ((1, ANCHORS),))
    resizes = [Resize((SIZE, SIZE), (1.0, 1.0))] * len(logits)
    return lambda: post(output, placed, resizes)


def check_equal(theirs: list[dict[str, Tensor]], ours: list[Detections]) -> None:
    """Refuse to go on where detections are not the same; scores within rounding may change place."""
    for image, (peer, own) in enumerate(zip(theirs, ours, strict=True)):
        assert len(peer["boxes"]) == len(own.boxes), f"image {image}: another number of detections"
        near = (peer["boxes"][:, None] - own.boxes).abs().amax(dim=2) < 1e-3  # px
        near &= (peer["labels"][:, None] - 1) == own.labels
        near &= (peer["scores"][:, None] / own.scores - 1).abs() < 1e-5
        assert near.any(dim=0).all(), f"image {image}: detections that torchvision has not"
        assert near.any(dim=1).all(), f"image {image}: detections that dethead has not"


def measure(candidates: int, asked: float, options: argparse.Namespace) -> Row:
    """Give the row of one number of candidates."""
    drawn = draw(1 if options.quick else IMAGES, candidates)
    peer, own = torchvisions(*drawn), detheads(*drawn)
    check_equal(peer(), own())
    times = least({"torchvision": peer, "dethead": own}, rounds=1 if options.quick else 15)
    case = f"{len(drawn[0])} images, {candidates // 1000}k candidates each"
    values = (1000 * times[name].that_counts(options) for name in ("torchvision", "dethead"))
    return compare("postprocess", case, "torchvision SSDlite", ms(options), *values, asked=asked)


@torch.no_grad()
def main() -> None:
    """Parse, check, measure."""
    options = parser(__doc__).parse_args()
    torch.set_num_threads(options.threads)
    print(environment())
    finish([measure(*case, options) for case in ASKED.items()], options)


if __name__ == "__main__":
    main()
