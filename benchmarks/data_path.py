"""Time the way from a JPEG file to the network's input beside Pillow and torchvision's v2.

    python benchmarks/data_path.py [--quick] [--json FILE]

Drawn pictures of 640 x 480 pixels, as JPEG of quality 90 with about as many bytes for each pixel as the
photographs of a road data set (0.29), are brought to 320 x 320 with their boxes. *evaluation* decodes, scales
and pads without augmentation; *flip* mirrors every second one as well; *training* adds SSD's changes of
colour, canvas and crop with the probabilities of torchvision's SSD, but for the canvas (0.3). The peer
decodes with Pillow and calls the v2 transforms of the same names on tensors, on which they are faster; before
a time is printed, dethead's colours are compared with v2's, to the pixel. Times are the least CPU time of
some rounds on one thread.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from side_by_side import Row, compare, environment, finish, least, parser
from torchvision import tv_tensors
from torchvision.transforms import v2

from dethead.data.colours import distort
from dethead.data.images import read_image
from dethead.data.samples import PAD_VALUE, Sample, resize_to_fit
from dethead.data.transforms import TrainTransform
from dethead.structures import GroundTruth

WIDTH, HEIGHT, SIZE = 640, 480, 320
GRAIN = 8.0
"""Standard deviation, in steps of brightness."""
ASKED = 1.8
OFF = {"photometric": 0.0, "zoom_out": 0.0, "zoom_out_max": 2.0, "iou_crop": 0.0, "flip": 0.0}
CASES = {
    "evaluation": OFF,
    "flip": OFF | {"flip": 0.5},
    "training": OFF | {"photometric": 0.5, "zoom_out": 0.3, "iou_crop": 1.0, "flip": 0.5},
}


def draw_files(folder: Path, count: int) -> list[Path]:
    """Write smooth colours with grain on them, which makes about 100 KiB of each, as photographs have."""
    draw = np.random.default_rng(0)
    files = []
    for number in range(count):
        rough = draw.integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
        picture = Image.fromarray(rough).filter(ImageFilter.GaussianBlur(2))
        files.append(folder / f"{number}.jpg")
        smooth = np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        grain = draw.normal(0, GRAIN, smooth.shape)
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(files[-1], quality=90)
    return files


def draw_boxes() -> torch.Tensor:
    """Give (8, 4) boxes in pixels of the photograph."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(8, 2, generator=generator) * torch.tensor([WIDTH - 200, HEIGHT - 200])
    return torch.cat([corner, corner + 20 + 180 * torch.rand(8, 2, generator=generator)], dim=1)


def detheads(files: list[Path], options: dict[str, float]) -> Callable[[], list[Sample]]:
    """Give dethead's call."""
    augment = None if options == OFF else TrainTransform(**options, min_box_size=1.0)
    boxes = draw_boxes()
    truth = GroundTruth.from_labels(boxes, torch.zeros(len(boxes), dtype=torch.int64), 1)

    def prepare(file: Path) -> Sample:
        sample = Sample(read_image(file), truth)
        return resize_to_fit(sample if augment is None else augment(sample), (SIZE, SIZE))[0]

    def call() -> list[Sample]:
        torch.manual_seed(0)
        return [prepare(file) for file in files]

    return call


def peers(files: list[Path], options: dict[str, float]) -> Callable[[], list[object]]:
    """Give the call of Pillow and v2; steps that are off are left out."""
    steps: list[v2.Transform] = []
    if options["photometric"]:
        steps += [v2.RandomPhotometricDistort(p=options["photometric"])]
    if options["zoom_out"]:
        zoom = (1.0, options["zoom_out_max"])
        steps += [v2.RandomZoomOut(PAD_VALUE, side_range=zoom, p=options["zoom_out"])]
    if options["iou_crop"]:
        steps += [v2.RandomIoUCrop()]
    if options["flip"]:
        steps += [v2.RandomHorizontalFlip(options["flip"])]
    steps += [v2.Resize(size=None, max_size=SIZE), Pad(), v2.SanitizeBoundingBoxes()]
    transform, boxes = v2.Compose([v2.ToImage(), *steps]), draw_boxes()

    def call() -> list[object]:
        torch.manual_seed(0)
        made = []
        for file in files:
            with Image.open(file) as opened:
                picture = opened.convert("RGB")
            placed = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(HEIGHT, WIDTH))
            given = {"boxes": placed, "labels": torch.zeros(len(boxes), dtype=torch.int64)}
            made.append(transform(picture, given))
        return made

    return call


class Pad(v2.Transform):
    """Pad right and below to the size of the input."""

    def make_params(self, flat_inputs: list[object]) -> dict[str, int]:
        """Find what is missing."""
        height, width = v2.functional.get_size(flat_inputs[0])
        return {"right": SIZE - width, "below": SIZE - height}

    def transform(self, inpt: object, params: dict[str, int]) -> object:
        """Add it."""
        return v2.functional.pad(inpt, [0, 0, params["right"], params["below"]], fill=PAD_VALUE)


def check_equal(file: Path) -> None:
    """Refuse to go on where colours come out otherwise than v2's."""
    image = read_image(file)
    for seed in range(10):
        torch.manual_seed(seed)
        wanted = v2.RandomPhotometricDistort(p=0.5)(image)
        torch.manual_seed(seed)
        assert torch.equal(distort(image, 0.5), wanted), f"other colours, seed {seed}"


def measure(case: str, files: list[Path], rounds: int) -> Row:
    """Give the row of one case."""
    options = CASES[case]
    times = least({"peer": peers(files, options), "dethead": detheads(files, options)}, rounds)
    peer, own = (len(files) / times[name].cpu for name in ("peer", "dethead"))
    return compare(
        "data path, 640 x 480 JPEG to 320",
        case,
        "torchvision v2 + Pillow",
        "images/s",
        peer,
        own,
        asked=ASKED,
    )


def main() -> None:
    """Draw, check, measure."""
    options = parser(__doc__, timed=False).parse_args()
    torch.set_num_threads(1)
    print(environment())
    with tempfile.TemporaryDirectory() as folder:
        files = draw_files(Path(folder), 4 if options.quick else 32)
        print(f"{sum(file.stat().st_size for file in files) / len(files) / 1024:.0f} KiB a file")
        check_equal(files[0])
        finish([measure(case, files, 1 if options.quick else 7) for case in CASES], options)


if __name__ == "__main__":
    main()
