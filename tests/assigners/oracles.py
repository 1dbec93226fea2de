"""The assigners once more, written from the papers: plain loops over Python floats, one pair at a time."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from dethead.structures import BACKGROUND, IGNORE, Anchors, GroundTruth, Predictions

Box = Sequence[float]


class Scene(NamedTuple):
    """One image, without tensors."""

    anchors: list[list[float]]
    levels: list[range]
    strides: list[int]
    shapes: list[int]
    """Anchors per cell of each level."""
    boxes: list[list[float]]
    targets: list[list[float]]
    known: list[bool]
    regions: list[list[float]]
    seen: list[list[float]]
    """Decoded predictions; the anchors themselves where an assigner sees none."""
    probabilities: list[list[float]]
    confidence: list[float]

    @classmethod
    def of(cls, anchors: Anchors, truth: GroundTruth, predictions: Predictions | None, image: int) -> "Scene":
        """Take row ``image`` of a batch."""
        levels = [range(level.start, level.stop) for level in anchors.levels]
        shapes = [len(rows) // (a * b) for rows, (a, b) in zip(levels, anchors.cells, strict=True)]
        seen = [anchors.boxes.tolist(), [], []]
        if predictions is not None:
            seen = [part[image].tolist() for part in predictions]
        lists = [
            part.tolist() for part in (truth.boxes, truth.targets, truth.class_known, truth.ignore_boxes)
        ]
        return cls(anchors.boxes.tolist(), levels, list(anchors.strides), shapes, *lists, *seen)

    def stride(self, anchor: int) -> int:
        return next(s for s, rows in zip(self.strides, self.levels, strict=True) if anchor in rows)


class Answer(NamedTuple):
    matched: list[int]
    overlaps: list[float]
    quality: list[float] | None


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def shared(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def overlap(a: Box, b: Box) -> float:
    inner = shared(a, b)
    union = area(a) + area(b) - inner
    return inner / union if union > 0 else 0.0


def center(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def distance(a: Box, b: Box) -> float:
    """Squared, of the centres: exact for coordinates that are small multiples of a power of two."""
    return sum((p - q) ** 2 for p, q in zip(center(a), center(b), strict=True))


def sides(anchor: Box, box: Box) -> tuple[float, float, float, float]:
    """Distances of the anchor's centre to the left, top, right and bottom side."""
    x, y = center(anchor)
    return x - box[0], y - box[1], box[2] - x, box[3] - y


def inside(anchor: Box, box: Box) -> bool:
    return min(sides(anchor, box)) > 0


def near(anchor: Box, box: Box, reach: float) -> bool:
    """Whether the anchor's centre is in the square of half a side ``reach`` around the box's centre."""
    x, y = center(anchor)
    a, b = center(box)
    return max(abs(x - a), abs(y - b)) < reach


def answer(scene: Scene, claims: dict[int, int], quality: dict[int, float] | None) -> Answer:
    """Positives as claimed; the others ignored where half of them is in one region."""
    matched, overlaps = [], []
    for index, anchor in enumerate(scene.anchors):
        ignored = any(shared(anchor, region) / area(anchor) >= 0.5 for region in scene.regions)
        matched.append(claims.get(index, IGNORE if ignored else BACKGROUND))
        overlaps.append(overlap(scene.seen[index], scene.boxes[claims[index]]) if index in claims else 0.0)
    soft = None if quality is None else [quality.get(index, 0.0) for index in range(len(matched))]
    return Answer(matched, overlaps, soft)


def atss(scene: Scene, k: int = 9) -> Answer:
    """Zhang et al. 2020, algorithm 1."""
    claims: dict[int, int] = {}
    best: dict[int, float] = {}
    for row, box in enumerate(scene.boxes):
        candidates: list[int] = []
        for rows, shapes in zip(scene.levels, scene.shapes, strict=True):
            distances = {i: distance(scene.anchors[i], box) for i in rows}
            candidates += sorted(rows, key=lambda i, d=distances: (d[i], i))[: k * shapes]
        overlaps = [overlap(scene.anchors[i], box) for i in candidates]
        mean = math.fsum(overlaps) / len(overlaps)
        spread = math.fsum((u - mean) ** 2 for u in overlaps)
        limit = mean + math.sqrt(spread / max(len(overlaps) - 1, 1))
        for i, u in zip(candidates, overlaps, strict=True):
            if u >= limit and inside(scene.anchors[i], box) and u > best.get(i, -1.0):
                claims[i], best[i] = row, u
    return answer(scene, claims, None)


def centers(scene: Scene, radius: float | None = 1.5) -> Answer:
    """Tian et al. 2019, section 3, with the centre sampling of its later version."""
    claims: dict[int, int] = {}
    quality = {}
    for index, anchor in enumerate(scene.anchors):
        level = next(n for n, rows in enumerate(scene.levels) if index in rows)
        stride = scene.strides[level]
        low = 0.0 if level == 0 else 8.0 * scene.strides[level - 1]
        high = math.inf if level == len(scene.levels) - 1 else 8.0 * stride
        for row, box in enumerate(scene.boxes):
            if not inside(anchor, box) or not low <= max(sides(anchor, box)) <= high:
                continue
            if radius is not None and not near(anchor, box, radius * stride):
                continue
            if index not in claims or area(box) < area(scene.boxes[claims[index]]):
                claims[index] = row
        if index in claims:
            left, top, right, bottom = sides(anchor, scene.boxes[claims[index]])
            horizontal = min(left, right) / max(left, right)
            quality[index] = math.sqrt(horizontal * min(top, bottom) / max(top, bottom))
    return answer(scene, claims, quality)


def log(value: float) -> float:
    """No smaller than -100, as in torch's binary cross-entropy."""
    return max(math.log(value), -100.0) if value > 0 else -100.0


def class_cost(scene: Scene, row: int, anchor: int, kind: str, confident: bool) -> float:
    if not scene.known[row]:
        return 0.0
    targets, cost = scene.targets[row], 0.0
    for target, probability in zip(targets, scene.probabilities[anchor], strict=True):
        factors = [probability, scene.confidence[anchor]] if confident else [probability]
        if kind == "softmax":
            cost -= target / sum(targets) * log(math.prod(factors))
        else:
            mean = math.prod(factors) ** (1 / len(factors))
            cost -= target * log(mean) + (1 - target) * log(1 - mean)
    return cost


def sim_ota(
    scene: Scene,
    kind: str,
    radius: float = 2.5,
    iou_weight: float = 3.0,
    best: int = 10,
    in_box: bool = True,
    confident: bool = True,
) -> Answer:
    """Ge et al. 2021, section 2.1 (SimOTA); the costs literally, with the 1e6 of YOLOX's code.

    ``in_box`` False: a box's square alone counts, as in YOLOX's code since 0.3.
    """
    reaches = [radius * scene.stride(i) for i in range(len(scene.anchors))]
    candidates = [
        i
        for i, anchor in enumerate(scene.anchors)
        if any((in_box and inside(anchor, box)) or near(anchor, box, reaches[i]) for box in scene.boxes)
    ]
    claims: dict[int, int] = {}
    paid: dict[int, float] = {}
    for row, box in enumerate(scene.boxes):
        overlaps = {i: overlap(scene.seen[i], box) for i in candidates}
        k = max(1, int(sum(sorted(overlaps.values(), reverse=True)[:best])))
        costs = {}
        for i in candidates:
            anchor = scene.anchors[i]
            both = (inside(anchor, box) or not in_box) and near(anchor, box, reaches[i])
            costs[i] = class_cost(scene, row, i, kind, confident) - iou_weight * math.log(overlaps[i] + 1e-8)
            costs[i] += 0.0 if both else 1e6
        for i in sorted(candidates, key=lambda i, c=costs: (c[i], i))[:k]:
            if costs[i] < paid.get(i, math.inf):
                claims[i], paid[i] = row, costs[i]
    quality = {i: overlap(scene.seen[i], scene.boxes[row]) for i, row in claims.items()}
    return answer(scene, claims, quality)


def alignment(scene: Scene, row: int, anchor: int, alpha: float, beta: float, confident: bool) -> float:
    labels = sum(scene.targets[row])
    score = scene.confidence[anchor] if confident else 1.0
    if scene.known[row] and labels:
        terms = zip(scene.targets[row], scene.probabilities[anchor], strict=True)
        score *= sum(target * probability for target, probability in terms) / labels
    return float(score**alpha * overlap(scene.seen[anchor], scene.boxes[row]) ** beta)


def task_aligned(
    scene: Scene,
    k: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
    confident: bool = True,
    min_side: float = 0.0,
) -> Answer:
    """Feng et al. 2021, section 3.2; a box with no centre inside is looked for as if it were larger."""
    claims: dict[int, int] = {}
    for row, box in enumerate(scene.boxes):
        x, y = center(box)
        shortest = min_side * min(scene.strides)
        half = [max(box[2 + axis] - box[axis], shortest) / 2 for axis in (0, 1)]
        larger = [x - half[0], y - half[1], x + half[0], y + half[1]]
        area_looked_in = box if any(inside(anchor, box) for anchor in scene.anchors) else larger
        metric = {
            i: alignment(scene, row, i, alpha, beta, confident)
            for i, anchor in enumerate(scene.anchors)
            if inside(anchor, area_looked_in)
        }
        for i in sorted((i for i in metric if metric[i] > 0), key=lambda i, t=metric: (-t[i], i))[:k]:
            if i not in claims or overlap(scene.seen[i], box) > overlap(
                scene.seen[i], scene.boxes[claims[i]]
            ):
                claims[i] = row
    quality = {}
    for row, box in enumerate(scene.boxes):
        mine = [i for i in claims if claims[i] == row]
        highest = max((alignment(scene, row, i, alpha, beta, confident) for i in mine), default=0.0)
        best = max((overlap(scene.seen[i], box) for i in mine), default=0.0)
        for i in mine:
            quality[i] = alignment(scene, row, i, alpha, beta, confident) / highest * best
    return answer(scene, claims, quality)
