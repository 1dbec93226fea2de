"""Pictures: boxes on images, truth beside detections, curves of a run.

Pillow and matplotlib are imported where they are used, so that importing dethead stays fast.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from torch import Tensor

from dethead.structures import Detections, GroundTruth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image as Picture
    from PIL.ImageFont import FreeTypeFont

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

# Okabe and Ito 2008, "Color Universal Design": told apart with every common form of colour blindness.
# Black is left out, it marks nothing on dark pictures.
_PALETTE: Final[tuple[Colour, ...]] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
_IGNORED: Final[Colour] = (160, 160, 160)
_BLACK: Final[Colour] = (0, 0, 0)
_WHITE: Final[Colour] = (255, 255, 255)
_ENLARGE_TO: Final = 640  # px of the longer side; labels on smaller pictures would hide what they name


class Mark(NamedTuple):
    """A box to draw, in pixels of the image."""

    box: Rectangle
    """x1, y1, x2, y2"""
    text: str
    """What its label says."""
    colour: Colour
    """RGB, each in [0, 255]."""


def class_colour(label: int) -> Colour:
    """Give the RGB colour of a class; after seven classes they repeat, the label's text tells them apart.

    Example:
        >>> class_colour(0), class_colour(7)
        ((230, 159, 0), (230, 159, 0))
    """
    return _PALETTE[label % len(_PALETTE)]


def draw_detections(
    image: Tensor,
    detections: Detections,
    class_names: Sequence[str],
    *,
    score_threshold: float = 0.0,
    enlarge_to: int = _ENLARGE_TO,
) -> Tensor:
    """Draw detections with class and score.

    Args:
        image: (3, H, W) uint8 RGB.
        detections: boxes in pixels of this image.
        class_names: (C,)
        score_threshold: detections below it are not drawn.
        enlarge_to: pixels of the longer side; a smaller image is enlarged, so that the text has room.

    Returns:
        (3, H', W') uint8 RGB, the image enlarged by one factor or as large as it was.

    Raises:
        ValueError: an image that is not (3, H, W) uint8, or a label without a name.
    """
    marks = _detection_marks(detections, class_names, score_threshold)
    return _to_tensor(_draw(image, marks, enlarge_to))


def draw_truth(
    image: Tensor, truth: GroundTruth, class_names: Sequence[str], *, enlarge_to: int = _ENLARGE_TO
) -> Tensor:
    """Draw objects with their classes, "?" for an unknown one, and ignore regions in grey.

    Args:
        image: (3, H, W) uint8 RGB.
        truth: boxes in pixels of this image.
        class_names: (C,)
        enlarge_to: as in ``draw_detections``.

    Returns:
        (3, H', W') uint8 RGB.
    """
    return _to_tensor(_draw(image, _truth_marks(truth, class_names), enlarge_to))


def truth_beside_detections(
    image: Tensor,
    truth: GroundTruth,
    detections: Detections,
    class_names: Sequence[str],
    *,
    score_threshold: float = 0.3,
    enlarge_to: int = _ENLARGE_TO,
) -> Tensor:
    """Draw the truth left and the detections right, each under its heading.

    Args:
        image: (3, H, W) uint8 RGB.
        truth: boxes in pixels of this image.
        detections: the same.
        class_names: (C,)
        score_threshold: detections below it are not drawn; the heading names it.
        enlarge_to: as in ``draw_detections``, for each half.

    Returns:
        (3, H', W') uint8 RGB, a little more than twice as wide as one picture.
    """
    from PIL import Image, ImageDraw

    left = _draw(image, _truth_marks(truth, class_names), enlarge_to)
    right = _draw(image, _detection_marks(detections, class_names, score_threshold), enlarge_to)
    font = _font(_text_size(left.width, left.height))
    gap = max(4, left.width // 80)
    heading = int(1.8 * font.size)
    both = Image.new("RGB", (2 * left.width + gap, left.height + heading), _WHITE)
    pen = ImageDraw.Draw(both)
    for x, picture, text in (
        (0, left, "truth"),
        (left.width + gap, right, f"detections, score >= {score_threshold:g}"),
    ):
        both.paste(picture, (x, heading))
        pen.text((x + 4, heading // 2), text, _BLACK, font, anchor="lm")
    return _to_tensor(both)


def draw_marks(
    image: Tensor, marks: Sequence[Mark], *, enlarge_to: int = _ENLARGE_TO, text_size: int | None = None
) -> Tensor:
    """Draw any boxes, the first on top; for pictures that the functions above do not make.

    Args:
        image: (3, H, W) uint8 RGB.
        marks: boxes in pixels of this image.
        enlarge_to: as in ``draw_detections``.
        text_size: px in the picture; by default as fits a picture that is looked at alone.

    Returns:
        (3, H', W') uint8 RGB.
    """
    return _to_tensor(_draw(image, marks, enlarge_to, text_size))


def save_picture(picture: Tensor, file: Path) -> None:
    """Write a (3, H, W) uint8 RGB picture; the suffix says how (``.png``, ``.jpg``)."""
    _to_picture(picture).save(file)


def _detection_marks(
    detections: Detections, class_names: Sequence[str], score_threshold: float
) -> list[Mark]:
    kept = detections.cpu().select(detections.scores.cpu() >= score_threshold)
    kept = kept.select(kept.scores.argsort(descending=True, stable=True))
    return [
        Mark((x1, y1, x2, y2), f"{_name(label, class_names)} {score:.2f}", class_colour(label))
        for (x1, y1, x2, y2), score, label, *_ in zip(*(column.tolist() for column in kept), strict=True)
    ]


def _truth_marks(truth: GroundTruth, class_names: Sequence[str]) -> list[Mark]:
    marks = []
    for (x1, y1, x2, y2), targets, known in zip(
        truth.boxes.tolist(), truth.targets, truth.class_known.tolist(), strict=True
    ):
        labels = targets.nonzero()[:, 0].tolist() if known else []
        text = " + ".join(_name(label, class_names) for label in labels) or "?"
        marks.append(Mark((x1, y1, x2, y2), text, class_colour(labels[0]) if labels else _WHITE))
    ignored = truth.ignore_boxes.tolist()
    return marks + [Mark((x1, y1, x2, y2), "ignored", _IGNORED) for x1, y1, x2, y2 in ignored]


def _name(label: int, class_names: Sequence[str]) -> str:
    if not 0 <= label < len(class_names):
        raise ValueError(f"label {label} has no name, there are {len(class_names)} classes")
    return class_names[label]


def _draw(image: Tensor, marks: Sequence[Mark], enlarge_to: int, text_size: int | None = None) -> "Picture":
    """Draw all boxes, then all labels, the first mark on top."""
    from PIL import Image, ImageDraw

    picture = _to_picture(image)
    scale = max(1.0, enlarge_to / max(picture.size))
    if scale > 1:
        size = (round(scale * picture.width), round(scale * picture.height))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    text_size = text_size or _text_size(*picture.size)
    font = _font(text_size)
    scaled = [mark._replace(box=_scale(mark.box, scale)) for mark in marks]
    pen = ImageDraw.Draw(picture)
    for mark in reversed(scaled):
        _outline(pen, mark.box, mark.colour, max(2, text_size // 6))
    plates: list[Rectangle] = []
    for mark in scaled:
        plates.append(_place_label(mark, font, picture.size, plates))
    for mark, plate in reversed([*zip(scaled, plates, strict=True)]):
        pen.rectangle(plate, mark.colour, _BLACK)
        text_colour = _BLACK if _luminance(mark.colour) > 0.18 else _WHITE  # equal contrast with both at 0.18
        pen.text((plate[0] + text_size // 4, (plate[1] + plate[3]) / 2), mark.text, text_colour, font, "lm")
    return picture


def _scale(box: Rectangle, factor: float) -> Rectangle:
    x1, y1, x2, y2 = box
    return factor * x1, factor * y1, factor * x2, factor * y2


def _outline(pen: Any, box: Rectangle, colour: Colour, line: int) -> None:
    # The dark rim keeps a bright colour visible on a bright picture.
    x1, y1, x2, y2 = box
    x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), None, _BLACK, line + 2)
    pen.rectangle((x1, y1, x2, y2), None, colour, line)


def _place_label(
    mark: Mark, font: "FreeTypeFont", size: tuple[int, int], placed: Sequence[Rectangle]
) -> Rectangle:
    """Find room for the text: above, inside, or below the box, away from the labels placed before."""
    width = font.getlength(mark.text) + font.size // 2
    height = 1.4 * font.size
    x1, y1, _, y2 = mark.box
    left = max(0.0, min(x1, size[0] - 1 - width))
    tops = [max(0.0, min(top, size[1] - 1 - height)) for top in (y1 - height, y1, y2, y2 - height)]
    plates = [(left, top, left + width, top + height) for top in tops]
    free = (plate for plate in plates if not any(_overlap(plate, other) for other in placed))
    return next(free, plates[0])


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _luminance(colour: Colour) -> float:
    """Relative luminance in [0, 1]. Source: WCAG 2.1, https://www.w3.org/TR/WCAG21/#dfn-relative-luminance."""
    red, green, blue = (
        value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _text_size(width: int, height: int) -> int:
    return max(8, max(width, height) // 45)


def _font(size: int) -> "FreeTypeFont":
    import matplotlib
    from PIL import ImageFont

    # matplotlib brings this font along; it knows more letters than Pillow's own.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def _to_picture(image: Tensor) -> "Picture":
    from PIL import Image

    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8 or image.numel() == 0:
        raise ValueError(f"image must be (3, H, W) uint8, got {tuple(image.shape)} {image.dtype}")
    return Image.fromarray(image.detach().cpu().permute(1, 2, 0).contiguous().numpy())


def _to_tensor(picture: "Picture") -> Tensor:
    import numpy as np

    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def plot_curves(log: Path, file: Path) -> None:
    """Plot what a run has logged so far: losses, validation AP and learning rate over the steps.

    Args:
        log: ``log.jsonl`` of a run; a last line that is still being written is left out.
        file: picture to write; the suffix says how (``.png``, ``.svg``, ``.pdf``).

    Raises:
        ValueError: a log without a complete line, or a line that is not JSON, named by number.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = _read_log(log)
    training = [line for line in lines if "total" in line]
    validation = [{"step": line["step"], **line["val"]} for line in lines if "val" in line]
    # A figure of its own rather than pyplot: no window, no global state.
    figure = Figure(figsize=(9, 9), layout="constrained")
    FigureCanvasAgg(figure)
    losses, precision, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1))
    _plot_losses(losses, training, validation)
    for name, colour in (("AP", 4), ("AP50", 1), ("AP75", 2)):
        steps, values = _series(validation, name)
        precision.plot(steps, values, "o-", color=_unit(colour), label=name, markersize=4)
    precision.set(ylabel="validation AP, in [0, 1]", ylim=(0, 1))
    steps, values = _series(training, "lr")
    rate.plot(steps, values, color=_unit(5))
    rate.set(ylabel="learning rate", xlabel=_step_label(lines), ylim=(0, None))
    for axes in (losses, precision, rate):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper right" if axes is losses else "upper left", ncols=2)
    figure.savefig(file, dpi=120)


def _plot_losses(axes: "Axes", training: list[dict[str, Any]], validation: list[dict[str, Any]]) -> None:
    terms = {"total": _BLACK, "classification": _PALETTE[5], "confidence": _PALETTE[4], "box": _PALETTE[2]}
    for name, colour in terms.items():
        unit = tuple(value / 255 for value in colour)
        steps, values = _series(training, name)
        axes.plot(steps, values, color=unit, alpha=0.2, linewidth=0.8)
        axes.plot(steps, _smooth(values), color=unit, label=name)
        steps, values = _series(validation, name)
        axes.plot(steps, values, "o", color=unit, markersize=5, markeredgecolor="white")
    axes.plot([], [], "o", color="grey", label="validation")
    axes.set(ylabel="weighted loss terms", yscale="log")


def _read_log(log: Path) -> list[dict[str, Any]]:
    lines = log.read_text(encoding="utf-8").splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{log}: line {number}: not JSON: {error.msg}") from error
    if not rows:
        raise ValueError(f"{log}: nothing has been logged yet")
    return rows


def _series(rows: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Give steps and values where the value was logged; JSON's null is nan, a gap in the line."""
    found = [(row["step"], row[name]) for row in rows if name in row]
    return [step for step, _ in found], [float("nan") if v is None else float(v) for _, v in found]


def _smooth(values: Sequence[float]) -> list[float]:
    """Running mean over a fiftieth of the run, of what is there at the two ends."""
    half = len(values) // 100
    sums = [0.0, *itertools.accumulate(values)]
    ends = [(max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in ends]


def _step_label(lines: Sequence[dict[str, Any]]) -> str:
    last = lines[-1]
    return f"step (step {last['step']} is in epoch {last['epoch']})" if "epoch" in last else "step"


def _unit(place: int) -> tuple[float, ...]:
    return tuple(value / 255 for value in _PALETTE[place])
